"""Options of a builder, through vl.load: they arrive, and one that nobody knows is told with those that are known."""

import pytest
import torch
from timm.models import list_models, model_entrypoint
from torch import nn

from vizlib.models.architectures.registry import ARCHITECTURES, build
from vizlib.models.load import load
from vizlib.models.options import options_of

TINY = {"dim": 12, "depth": 1, "heads": 2, "num_classes": 3}


def random(name, **options):
    return load(name, pretrained=False, device="cpu", **options)


def test_options_arrive_at_every_source():
    assert len(random("timm/vit_tiny_patch16_224", depth=2).module.blocks) == 2
    assert random("torchvision/mobilenet_v3_small", dropout=0.5).module.classifier[2].p == 0.5
    assert random("arch/dynamicvit_deit_s_07", keep=0.5).module.keep == 0.5
    assert random("zoo/vit", drop_path=0.3).module.blocks[-1].drop_path1.drop_prob > 0
    mask = random("arch/vit_bigbird", window=5, **TINY).module.blocks[0].attn.attend.mask
    assert mask[1].sum() == 1 + 3 * 3 + 6  # a corner: class token, a quarter of the window, random ones


@pytest.mark.parametrize("name", ["arch/vit_linformer", "arch/vit_bigbird"])
@pytest.mark.parametrize("size", [{"input_size": (3, 64, 96)}, {"image_size": (64, 96)}])
def test_a_model_of_fixed_size_is_built_for_the_size_asked_for(name, size):
    clf = random(name, **size, **TINY)
    assert clf.input_size == (3, 64, 96)
    assert clf("cat").shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("timm/vit_tiny_patch16_224", {"img_size": 64, "depth": 1}),
        ("torchvision/vit_b_16", {"image_size": 64}),
        ("arch/hybrid_resnet50", {"image_size": 64, "depth": 1}),
    ],
)
def test_a_size_is_told_to_the_builder_and_to_the_photos(name, options):
    clf = random(name, **options)
    assert clf.input_size == (3, 64, 64)
    assert clf("cat").shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("timm/vit_tiny_patch16_224", "depth, num_heads"),
        ("torchvision/swin_t", "stochastic_depth_prob"),
        ("arch/t2t_vit_t_14", "tokens, num_classes, image_size, drop_path"),
        ("zoo/vit", "drop_path, layer_scale"),
    ],
)
def test_an_unknown_option_names_the_known_ones(name, known):
    with pytest.raises(ValueError, match=rf"got 'widht'\. It takes: .*{known}"):
        random(name, widht=3)


def test_an_option_is_looked_at_before_weights_are():
    with pytest.raises(ValueError, match=r"got 'pretraind'.*help\(vizlib\.load\)"):
        load("arch/cswin_t", pretraind=False)


def test_what_cannot_be_changed_says_so():
    with pytest.raises(ValueError, match="fit its own shape; got drop_path"):
        load("zoo/vit", drop_path=0.1)
    with pytest.raises(ValueError, match=r"used as it is.*got depth"):
        load(nn.Linear(2, 2), depth=3)
    with pytest.raises(ValueError, match=r"takes 3 channels; got input_size=\(1, 64, 64\)"):
        random("arch/t2t_vit_7", input_size=(1, 64, 64))


def test_a_folder_of_hugging_face_takes_fields_of_its_configuration(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")
    transformers.ViTConfig(hidden_size=16, num_attention_heads=2, intermediate_size=32).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    clf = random(f"hf/{tmp_path}", image_size=32, num_hidden_layers=1)
    assert clf("cat").shape == (1, 2)
    with pytest.raises(ValueError, match=r"^hf/.* got 'num_hidden_layer'\. It takes: .*num_hidden_layers"):
        random(f"hf/{tmp_path}", num_hidden_layer=1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_option_that_is_named_is_taken(name):
    """Each with a value of its kind, so that none is bound twice by a builder."""
    values = {"num_classes": 7, "image_size": 224, "drop_path": 0.1, "dropout": 0.1, "keep": 0.9, "skip": 1.0}
    with torch.device("meta"):
        for option in ARCHITECTURES[name].options:
            if option in values:
                build(name, **{option: values[option]})
    assert "num_classes" in ARCHITECTURES[name].options


def test_the_options_of_every_builder_of_timm_can_be_read():
    assert all("pretrained" in options_of(model_entrypoint(name)) for name in list_models()[::20])
