"""A classifier from every source, prepared as its own configuration says, and plain words without network."""

import socket
import time

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from vizlib import data
from vizlib.models import hub
from vizlib.models.load import load
from vizlib.models.sources import ProcessorTransform
from vizlib.types import Classifier

NO_PHOTO = torch.zeros(1, 3, 8, 8)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A hub that refuses every connection, and empty caches."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def small_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


# Names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "mean", "label"),
    [
        ("timm/resnet18", (3, 224, 224), (0.485, 0.456, 0.406), "tabby"),
        ("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", (3, 224, 224), (0.5, 0.5, 0.5), "tabby"),
        ("torchvision/mobilenet_v3_small", (3, 224, 224), (0.485, 0.456, 0.406), "tabby"),
        ("arch/t2t_vit_7", (3, 224, 224), (0.485, 0.456, 0.406), "tabby"),
        ("zoo/vit", (3, 64, 64), (0.485, 0.456, 0.406), "tabby_cat"),
    ],
)
def test_sources_with_random_weights(name, size, mean, label):
    clf = load(name, pretrained=False, device="cpu")
    assert (clf.name, clf.input_size) == (name, size)
    assert clf.mean == pytest.approx(mean)
    assert label in clf.labels
    assert not any(m.training for m in clf.module.modules())
    assert clf(["cat", "coffee"]).shape == (2, len(clf.labels))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm/resnet19", "Near ones: timm/resnet18"),
        ("timm/resnet18.a1_in2k", r"Near ones: timm/resnet18\.a1_in1k"),
        ("torchvision/fcn_resnet50", "Near ones: torchvision/resnet50"),
        ("zoo/vitt", "Near ones: zoo/vit"),
        ("arch/cswin", "Near ones: arch/cswin_"),
        ("resnet18", "Begin with one of: timm/…, torchvision/…"),
        ("keras/resnet", "Begin with one of"),
        ("timm/", "Begin with one of"),
    ],
)
def test_unknown_names_get_near_ones(name, words):
    with pytest.raises(ValueError, match=words):
        load(name)


def test_what_is_no_source():
    with pytest.raises(TypeError, match="got int"):
        load(5)


def test_other_head_and_size_for_random_weights():
    name, size = "timm/vit_tiny_patch16_224", (3, 64, 96)
    clf = load(name, pretrained=False, num_classes=7, input_size=size, device="cpu")
    assert clf("cat").shape == (1, 7)
    assert clf.prepare("cat").shape == (1, 3, 64, 96)
    assert clf.labels is None
    with pytest.raises(ValueError, match="num_classes=7"):
        load("timm/resnet18", num_classes=7)
    with pytest.raises(ValueError, match="a floating-point dtype"):
        load("zoo/vit", pretrained=False, dtype="int8")


def test_device_and_dtype():
    clf = load("zoo/vit", pretrained=False, device="cpu", dtype="bfloat16")
    assert (clf.device.type, clf.dtype) == ("cpu", torch.bfloat16)
    assert clf("cat").dtype == torch.bfloat16
    for name in ("warp", "gpu"):
        with pytest.raises(ValueError, match=rf"'{name}' is not there. A GPU is called 'cuda'.*'cpu'\. Leave device"):
            load("zoo/vit", pretrained=False, device=name)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="'cuda' is not there"):
            load("zoo/vit", pretrained=False, device="cuda")


@pytest.mark.gpu
def test_a_gpu_is_taken_where_there_is_one():
    assert load("zoo/vit", pretrained=False).device.type == "cuda"
    assert load("zoo/vit", pretrained=False, dtype="float16")("cat").dtype == torch.float16


# Preprocessing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "efficientnet_b1", "vit_h_14", "regnet_y_400mf"])
def test_photos_are_prepared_as_torchvision_does(name, monkeypatch):
    published = models.get_model_weights(name).DEFAULT.transforms()
    monkeypatch.setattr(models, "get_model", lambda *_, **__: nn.Identity())
    clf = load(f"torchvision/{name}", pretrained=False, device="cpu")
    photo = data.photo("coffee")
    torch.testing.assert_close(clf.transform(photo), published(photo))
    assert clf.transform(photo).shape == clf.input_size


def test_photos_are_prepared_as_timm_does():
    name = "efficientvit_b0.r224_in1k"
    cfg = timm.data.resolve_model_data_config(timm.create_model(name))
    clf = load(f"timm/{name}", pretrained=False, device="cpu")
    photo = data.photo("coffee")
    torch.testing.assert_close(clf.transform(photo), timm.data.create_transform(**cfg)(photo), rtol=0, atol=0)
    assert (clf.mean, clf.std) == (cfg["mean"], cfg["std"])


def test_normalisation_by_hand(small_net):
    clf = load(small_net, input_size=(3, 4, 4), mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0), crop_pct=1.0)
    photo = np.full((4, 4, 3), 255, np.uint8)
    assert clf.prepare(photo)[0, :, 0, 0].tolist() == [1.0, 0.75, 0.5]
    assert clf.picture(clf.prepare(photo)).unique().tolist() == [1.0]


def test_batches_of_pixel_values_and_preprocessed_ones(small_net):
    clf = load(small_net, input_size=(3, 8, 8), crop_pct=1.0)
    photos = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    by_hand = (photos / 255 - torch.tensor(clf.mean).view(3, 1, 1)) / torch.tensor(clf.std).view(3, 1, 1)
    torch.testing.assert_close(clf.prepare(photos), by_hand)
    torch.testing.assert_close(clf.prepare(photos.permute(0, 2, 3, 1).numpy()), by_hand)
    assert torch.equal(clf.prepare(by_hand), by_hand)


def test_one_channel():
    clf = load(nn.Flatten(), input_size=(1, 8, 8), mean=[0.0], std=[1.0], crop_pct=1.0)
    assert clf.prepare(np.full((8, 8, 3), 51, np.uint8)).unique().tolist() == pytest.approx([0.2])
    told = r"mean and std are needed for 1 channel.*none were given.*mean=\(0\.5,\), std=\(0\.5,\)"
    with pytest.raises(ValueError, match=told):
        load(nn.Flatten(), input_size=(1, 8, 8))
    with pytest.raises(ValueError, match="mean: one number for each of 1 channels"):
        load(nn.Flatten(), input_size=(1, 8, 8), mean=(0.1, 0.2), std=(1.0,))


def test_one_number_is_the_side_of_a_square_in_colour(small_net):
    assert load(small_net, input_size=96).input_size == (3, 96, 96)
    assert load(small_net, input_size=96).prepare("cat").shape == (1, 3, 96, 96)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_size": (224, 224)}, r"input_size is \(channels, rows, columns\)"),
        ({"input_size": (3, 0, 224)}, "input_size is"),
        ({"input_size": 22.4}, "input_size is .* or one side; got 22.4"),
        ({"input_size": -1}, "input_size is"),
        ({"mean": (0.5,)}, "mean: one number for each of 3 channels"),
        ({"std": (1.0, 1.0, 0.0)}, "std: one number for each of 3 channels, above 0"),
        ({"crop_pct": 0.0}, "share above 0"),
    ],
)
def test_settings_that_cannot_be(small_net, settings, words):
    with pytest.raises(ValueError, match=words):
        load(small_net, **settings)


# A module of one's own ---------------------------------------------------------------------------------


def test_a_module_is_used_as_it_is(small_net):
    small_net.train()
    before = {k: v.clone() for k, v in small_net.state_dict().items()}
    clf = load(small_net, input_size=(3, 8, 8), labels=["a", "b", "c"], name="mine")
    clf(NO_PHOTO)
    assert clf.module is small_net
    assert all(m.training for m in small_net.modules())
    assert all(torch.equal(v, before[k]) for k, v in small_net.state_dict().items())
    assert (clf.name, clf.label(2), load(small_net).name) == ("mine", "c", "Sequential")


def test_a_module_is_not_moved(small_net):
    assert load(small_net, device="cpu", dtype=torch.float32).module is small_net
    with pytest.raises(ValueError, match=r"got dtype=bfloat16\. Change it first"):
        load(small_net, dtype="bfloat16")
    with pytest.raises(ValueError, match="got device=meta"):
        load(small_net, device="meta")
    with pytest.raises(ValueError, match="got weights"):
        load(small_net, weights="a.pth")


def test_a_module_of_timm_brings_its_configuration():
    clf = load(timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5))
    assert (clf.input_size, clf.mean) == ((3, 32, 32), (0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="5 labels are needed, one a class; got 2"):
        load(clf.module, labels=["a", "b"])


# Weights from a file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_from_a_file(tmp_path, ending):
    torch.manual_seed(1)
    state = timm.create_model("resnet18", num_classes=4).state_dict()
    file = tmp_path / f"weights.{ending}"
    save_file(state, file) if ending == "safetensors" else torch.save({"state_dict": state}, file)
    clf = load("timm/resnet18", weights=file, num_classes=4, device="cpu")
    assert torch.equal(clf.module.fc.weight, state["fc.weight"])
    with pytest.raises(ValueError, match=r"fc\.weight"):
        load("timm/resnet18", weights=file)
    with pytest.raises(ValueError, match="one set of weights"):
        load("timm/resnet18", weights=file, pretrained=True)


def test_a_file_that_runs_code_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"module\.pth"):
        load("timm/resnet18", weights=tmp_path / "module.pth")


# The network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["timm/resnet18", "hf/someone/somewhat"])
def test_without_network_it_says_what_to_do_in_seconds(no_network, name):
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"pass weights=FILE, pretrained=False for random weights.*zoo/"):
        load(name)
    assert time.monotonic() - start < 10
    assert constants.HF_HUB_OFFLINE is False
    assert socket.getdefaulttimeout() is None


def test_torchvision_without_network(no_network, monkeypatch):
    monkeypatch.setattr(hub, "answers", lambda _: False)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(RuntimeError, match=r"fetching them gave: .*unplugged"):
        load("torchvision/resnet18")


def refuse(*_args, **_options):
    raise OSError("unplugged")


def test_a_hub_that_never_answers_is_left_after_seconds(monkeypatch):
    monkeypatch.setattr(hub, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        assert not hub.answers(f"http://127.0.0.1:{server.getsockname()[1]}")
        assert time.monotonic() - start < 2


def test_models_without_published_weights_say_so():
    name = next(n for n in timm.list_models("test_*") + timm.list_models("resnet*") if not published(n))
    with pytest.raises(ValueError, match="none are published"):
        load(f"timm/{name}")
    with pytest.raises(ValueError, match="none are published"):
        load("arch/cswin_t")
    with pytest.raises(ValueError, match="none are published"):
        load("timm/botnet50ts_256.untrained")


def published(name):
    return timm.models.get_pretrained_cfg(name).has_weights


# Hugging Face ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32,
        patch_size=8, id2label={0: "cat", 1: "dog", 2: "owl"}, label2id={"cat": 0, "dog": 1, "owl": 2},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("hf")
    torch.manual_seed(2)
    transformers.ViTForImageClassification(config).save_pretrained(folder / "whole")
    transformers.ViTModel(config).save_pretrained(folder / "headless")
    for name in ("whole", "headless"):
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / name)
    return folder


def test_a_folder_of_hugging_face(hf_folder):
    transformers = pytest.importorskip("transformers")
    clf = load(f"hf/{hf_folder / 'whole'}", device="cpu")
    assert (clf.input_size, clf.labels) == ((3, 32, 32), ("cat", "dog", "owl"))
    assert clf.mean == (0.5, 0.5, 0.5)
    peer = transformers.ViTForImageClassification.from_pretrained(hf_folder / "whole").eval()
    processor = transformers.ViTImageProcessor.from_pretrained(hf_folder / "whole")
    with torch.no_grad():
        expected = peer(**processor(data.photo("cat"), return_tensors="pt")).logits
    torch.testing.assert_close(clf("cat"), expected)
    torch.testing.assert_close(load(str(hf_folder / "whole"), device="cpu")("cat"), expected)


def test_a_folder_of_hugging_face_with_other_settings(hf_folder):
    clf = load(f"hf/{hf_folder / 'whole'}", pretrained=False, num_classes=5, mean=(0, 0, 0), device="cpu")
    assert not isinstance(clf.transform, ProcessorTransform)
    assert clf.prepare(Image.new("RGB", (32, 32), "white")).unique().tolist() == [2.0]
    assert (clf("cat").shape, clf.labels) == ((1, 5), None)


def test_a_checkpoint_without_a_head_is_refused(hf_folder):
    told = r"^hf/\S+ needs weights for all of the classifier; 2 are not published with it \(classifier\.bias"
    with pytest.raises(ValueError, match=told):
        load(f"hf/{hf_folder / 'headless'}")


def test_what_a_user_cannot_act_on_is_not_told(hf_folder, capfd, caplog):
    from transformers.utils import logging

    with pytest.raises(ValueError, match="not published"):
        load(f"hf/{hf_folder / 'headless'}", device="cpu")
    load(f"hf/{hf_folder / 'whole'}", device="cpu")
    load(f"hf/{hf_folder / 'whole'}", pretrained=False, num_classes=7, device="cpu")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.WARNING, True)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"a folder or a repository, 'hf/OWNER/NAME'.*is neither"):
        load(f"hf/{tmp_path / 'none'}")


def test_a_folder_that_lacks_the_processor(hf_folder, tmp_path):
    (tmp_path / "config.json").write_text((hf_folder / "whole/config.json").read_text())
    with pytest.raises(ValueError, match="reading the folder gave"):
        load(f"hf/{tmp_path}")


def test_a_module_of_hugging_face_brings_its_labels(hf_folder):
    transformers = pytest.importorskip("transformers")
    clf = load(transformers.ViTForImageClassification.from_pretrained(hf_folder / "whole"))
    assert isinstance(clf, Classifier)
    assert (clf.input_size, clf.label(2)) == ((3, 32, 32), "owl")
    assert clf("cat").shape == (1, 3)
