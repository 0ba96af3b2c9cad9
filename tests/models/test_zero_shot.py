"""Dual encoders as zero-shot classifiers and clips, on tiny models built from config and saved like published ones."""

from __future__ import annotations

import pytest
import torch

import vizlib as vl

transformers = pytest.importorskip("transformers", reason="needs the extra vizlib[hf]")
LABELS = ["cat", "dog", "king_penguin"]
WORDS = "[PAD] [EOS] [UNK] a photo of cat dog . king penguin"


def _tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS.split())}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[UNK]", 2), ("[EOS]", 1)]
    made.post_processor = processors.TemplateProcessing(single="[UNK] $A [EOS]", special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", eos_token="[EOS]", model_max_length=12
    )


TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
SEEN = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32}


def _clip():
    text = TEXT | {"eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 12}
    config = transformers.CLIPConfig(text_config=text, vision_config=SEEN | {"patch_size": 8}, projection_dim=8)
    return transformers.CLIPModel(config), transformers.CLIPImageProcessor(size=32, crop_size=32)


def _align():
    text = TEXT | {"max_position_embeddings": 16, "pad_token_id": 0}
    seen = {"image_size": 64, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 32}
    config = transformers.AlignConfig(text_config=text, vision_config=seen, projection_dim=32)
    return transformers.AlignModel(config), transformers.EfficientNetImageProcessor(size={"height": 64, "width": 64})


@pytest.fixture(params=[_clip, _align], ids=["clip", "align"])
def folder(request, tmp_path):
    torch.manual_seed(0)
    model, processor = request.param()
    for parameter in model.parameters():
        if parameter.ndim > 1:  # ALIGN's image tower starts out with features that are all zero
            torch.nn.init.normal_(parameter, std=0.2)
    for saved in (model.eval(), processor, _tokenizer()):
        saved.save_pretrained(tmp_path)
    return tmp_path, model


def test_zero_shot_logits_are_the_dual_encoder_s_own(folder):
    path, model = folder
    clf = vl.load(f"hf/{path}", labels=LABELS, device="cpu")
    x = torch.randn(2, *clf.input_size)
    sentences = ["a photo of a cat.", "a photo of a dog.", "a photo of a king penguin."]
    tokens = _tokenizer()(sentences, return_tensors="pt", padding=True)
    with torch.no_grad():
        want = model(pixel_values=x, input_ids=tokens.input_ids, attention_mask=tokens.attention_mask).logits_per_image
    torch.testing.assert_close(clf(x), want, rtol=1e-4, atol=1e-4)
    assert clf.labels == tuple(LABELS)


def test_zero_shot_is_explained_like_any_other(folder):
    path, _ = folder
    clf = vl.load(f"hf/{path}", labels=LABELS, device="cpu")
    x = torch.randn(2, *clf.input_size)
    heat = vl.explain(clf, x, "gradcam", target="dog")
    assert heat.labels == ("dog", "dog")
    other = vl.explain(clf, x, "gradcam", target="cat")
    assert not torch.allclose(heat.values, other.values), "the map does not depend on the text"
    if clf.module.model.config.model_type == "clip":
        assert vl.explain(clf, x, "rollout").values.shape == (2, 4, 4)


def test_zero_shot_without_texts_says_what_is_needed(folder):
    with pytest.raises(ValueError, match="labels="):
        vl.load(f"hf/{folder[0]}", device="cpu")


@pytest.fixture
def timesformer():
    torch.manual_seed(0)
    config = transformers.TimesformerConfig(
        image_size=32, patch_size=8, num_frames=4, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
        intermediate_size=32, num_labels=5,
    )  # fmt: skip
    model = transformers.TimesformerForVideoClassification(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_a_clip_is_a_strip_of_frames(timesformer, tmp_path):
    timesformer.save_pretrained(tmp_path)
    processor = transformers.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path)
    clf = vl.load(f"hf/{tmp_path}", device="cpu")
    assert clf.frames == 4
    clip = [vl.data.photo(name) for name in ("cat", "coffee", "rocket", "astronaut")]
    x = clf.prepare([clip, clip[::-1]])
    assert x.shape == (2, 4, 3, 32, 32)
    torch.testing.assert_close(x[0].flip(0), x[1])
    heat = vl.explain(clf, [clip, clip], "rollout")
    assert heat.values.shape == (2, 16, 4)
    assert heat.image.shape == (2, 3, 128, 32)
    with pytest.raises(ValueError, match="4 frames"):
        clf.prepare(clip[:3])


def test_time_attention_links_the_same_patch_of_all_frames(timesformer):
    clf = vl.Classifier(timesformer, "timesformer", None, (3, 32, 32), frames=4)
    trace = vl.trace(clf, torch.randn(2, 4, 3, 32, 32))
    in_time, in_space = list(trace.attentions.values())[:2]
    patches = torch.arange(16)[:, None] + 16 * torch.arange(4)  # (patch of a frame, frame) on the strip
    assert torch.equal(in_time.keys.index[0], patches)
    frames = torch.arange(64).view(4, 16)
    assert torch.equal(in_space.keys.index[0, :, 1:] - 1, frames)
    changed = trace.input.clone()
    changed[:, 2, :, 8:16, 16:24] += 5  # frame 2, patch (1, 2)
    other = next(iter(vl.trace(clf, changed).attentions.values()))
    moved = (other.value - in_time.value).abs().sum((0, 2, 4)) > 1e-6  # (patch, frame)
    assert moved.nonzero().tolist() == [[1 * 4 + 2, 2]]
