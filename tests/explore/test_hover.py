"""The bytes of the hover widget, unpacked with loops and held against Attention.heatmap."""

from __future__ import annotations

import base64
import io
import json
import math
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from vizlib import data
from vizlib.attention import Attention
from vizlib.capture.trace import trace
from vizlib.explore.hover import hover
from vizlib.show.hover import drawable, hover_html, hover_state
from vizlib.types import Classifier, Trace

MODELS = {
    "vit": lambda: tiny.classifier(tiny.vit()),
    "two prefix tokens": lambda: tiny.classifier(tiny.distilled()),
    "shifted windows": lambda: tiny.classifier(tiny.swin()),
    "not square": lambda: tiny.classifier(tiny.swin((32, 64)), (32, 64)),
    "pooled keys": lambda: tiny.classifier(tiny.pvt()),
    "class attention": lambda: tiny.classifier(tiny.cait_with_class_attention()),
    "stripes": lambda: tiny.classifier(tiny.cswin()),
    "dropped tokens": lambda: tiny.classifier(tiny.dynamic_vit()),
}


def traced(clf: Classifier, b: int = 2) -> Trace:
    return trace(clf, tiny.images(b, clf.input_size[1:]))


def unpack(layer: dict[str, Any]) -> dict[str, Any]:
    g, a, q, k = layer["shape"]
    return {
        "rows": np.frombuffer(layer["rows"], np.uint8).reshape(g, a, q, k),
        "scale": np.frombuffer(layer["scale"], np.float32).reshape(g, a, q),
        "prefix": np.frombuffer(layer["prefixMass"], np.float32).reshape(g, a, q),
        "queries": np.frombuffer(layer["queries"]["index"], np.int32).reshape(g, q),
        "keys": np.frombuffer(layer["keys"]["index"], np.int32).reshape(g, k),
    }


def attended(layer: dict[str, Any], token: int, heads: list[int]) -> tuple[np.ndarray, float]:
    """Weights per key cell (r, s) and mass on prefix tokens of one query token, slot by slot."""
    got, (r, s) = unpack(layer), layer["keys"]["grid"]
    slots = list(zip(*np.nonzero(got["queries"] == token), strict=True))
    cells, prefix = np.zeros(r * s), 0.0
    for group, slot in slots:
        for head in heads:
            prefix += float(got["prefix"][group, head, slot]) / len(slots) / len(heads)
            for k, key in enumerate(got["keys"][group]):
                if key >= layer["keys"]["prefix"]:
                    byte, unit = got["rows"][group, head, slot, k], got["scale"][group, head, slot] / 255
                    cells[key - layer["keys"]["prefix"]] += byte * unit / len(slots) / len(heads)
    return cells.reshape(r, s), prefix


def queries_of(attention: Attention, photo: int) -> list[tuple[int, Any]]:
    """Some query tokens of a photograph and how heatmap() names them."""
    tokens = attention.outputs if attention.outputs.grid else attention.queries
    index = tokens.index.expand(photo + 1 if len(tokens.index) == 1 else -1, -1, -1)[photo].unique()
    present = [int(i) for i in index if i >= 0]
    named = []
    for token in {present[0], present[len(present) // 2], present[-1]}:
        cell = token - tokens.prefix
        if cell < 0:
            named.append((token, token))
        else:
            r, s = tokens.grid  # type: ignore[misc]
            named.append((token, ((cell // s + 0.5) / r, (cell % s + 0.5) / s)))
    return named


@pytest.mark.parametrize("name", MODELS)
def test_bytes_against_heatmaps(name: str) -> None:
    found = traced(MODELS[name]())
    photo = 1
    state = hover_state(found, photo)
    assert [layer["name"] for layer in state["layers"]] == [a.name for a in drawable(found)]
    for layer, attention in zip(state["layers"], drawable(found), strict=True):
        for token, query in queries_of(attention, photo):
            for head in (None, attention.heads - 1):
                expected = attention.heatmap(query, head).values[photo].numpy()
                heads = list(range(attention.heads)) if head is None else [head]
                cells, prefix = attended(layer, token, heads)
                np.testing.assert_allclose(cells, expected, atol=expected.max() / 255 + 1e-7)
                if (attention.keys.index >= 0).all():  # nothing of a row lies on padding
                    assert cells.sum() + prefix == pytest.approx(1, abs=0.02)


def test_a_strong_class_token_does_not_cost_the_patches_their_bits() -> None:
    found = traced(tiny.classifier(tiny.vit()), 1)
    (name, attention) = next(iter(found.attentions.items()))
    weights = attention.weights().clone()
    weights[..., 0], weights[..., 1:] = 0.999, 0.001 * weights[..., 1:]
    strong = Attention(**(vars(attention) | {"softmax": weights}))
    (layer,) = hover_state(Trace(**(vars(found) | {"attentions": {name: strong}})))["layers"]
    cells, prefix = attended(layer, 3, [0])
    expected = weights[0, 0, 0, 3, 1:].numpy()
    np.testing.assert_allclose(cells.ravel(), expected, atol=expected.max() / 255)
    assert prefix == pytest.approx(0.999)


def test_thumbnails_show_the_class_token_or_the_mean_query() -> None:
    for clf, query, caption in [
        (tiny.classifier(tiny.vit()), 0, "class token"),
        (tiny.classifier(tiny.swin()), "mean", "mean over queries"),
    ]:
        found = traced(clf)
        for layer, attention in zip(hover_state(found, 1)["layers"], drawable(found), strict=True):
            assert layer["thumbsOf"] == caption
            thumbs = np.frombuffer(layer["thumbs"], np.uint8).reshape(attention.heads, *layer["keys"]["grid"])
            scales = np.frombuffer(layer["thumbScale"], np.float32)
            for head, thumb in enumerate(thumbs):
                values = attention.heatmap(query, head).values[1].numpy()
                assert scales[head] == pytest.approx(values.max())
                np.testing.assert_allclose(thumb, 255 * values / values.max(), atol=0.51)


def test_what_goes_beyond_the_limit_is_left_out_from_the_first_layer_on() -> None:
    found = traced(tiny.classifier(tiny.vit()))
    sizes = [math.prod(a.shape[1:]) for a in found.attentions.values()]
    assert len(sizes) > 1
    layers = hover_state(found, limit=sizes[-1])["layers"]
    assert [layer["rows"] is None for layer in layers] == [True] * (len(sizes) - 1) + [False]
    assert all(layer["thumbs"] for layer in layers)


def test_the_photograph_and_the_caption() -> None:
    found = traced(tiny.classifier(tiny.swin((32, 64)), (32, 64), name="net"))
    state = hover_state(found, 1)
    assert state["aspect"] == 0.5
    pixels = np.array(Image.open(io.BytesIO(state["photo"]))) / 255
    np.testing.assert_allclose(pixels, found.image[1].permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6)
    sure = found.logits[1].softmax(-1).max()
    assert (state["model"], state["caption"]) == ("net", f"{found.labels[1]}, {sure:.0%}")
    larger = hover_state(found, background=torch.zeros(3, 200, 400))
    assert Image.open(io.BytesIO(larger["photo"])).size == (400, 200)


def test_a_model_without_places_and_a_photograph_that_is_not_there() -> None:
    cnn = traced(tiny.classifier(tiny.CNN(), name="net"))
    with pytest.raises(
        ValueError, match=r"attention over places.*net has no attention operation that was seen.*vl\.compare"
    ):
        hover_state(cnn)
    with pytest.raises(ValueError, match="photographs 0 to 1; got 2"):
        hover_state(traced(tiny.classifier(tiny.vit())), 2)


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.found.append((dict(attrs), ""))

    def handle_data(self, text: str) -> None:
        if self.found:
            self.found[-1] = (self.found[-1][0], self.found[-1][1] + text)


def test_the_fragment_holds_the_state_and_asks_the_network_for_nothing() -> None:
    state = hover_state(traced(tiny.classifier(tiny.vit(), name="</script><b>&")))
    html = hover_html([state, state])
    parser = _Scripts()
    parser.feed(html)
    attributes, text = parser.found[0]
    assert attributes["type"] == "application/json"
    panels = json.loads(text)["panels"]
    assert [panel["model"] for panel in panels] == ["</script><b>&"] * 2
    assert base64.b64decode(panels[1]["layers"][0]["rows"]) == state["layers"][0]["rows"]
    assert "http" not in html.replace("http://www.w3.org", "")
    assert hover_html([state, state]) == html


def test_the_widget_sends_all_at_once_and_nothing_more() -> None:
    found = traced(tiny.classifier(tiny.vit()))
    widget = hover([found, traced(tiny.classifier(tiny.swin()))], 1)
    assert [len(p["layers"]) for p in widget.state["panels"]] == [2, len(drawable(widget._traces[1]))]
    assert all(layer["rows"] for panel in widget.state["panels"] for layer in panel["layers"])
    assert {"mountHover", "render"} <= set(str(widget._esm).replace("(", " ").split())


def test_the_widget_answers_with_the_layer_that_was_asked_for() -> None:
    found = traced(tiny.classifier(tiny.vit()))
    whole = hover_state(found, 1)["layers"][1]
    widget, sent = hover(found, 1, limit=0), []
    assert all(layer["rows"] is None for layer in widget.state["panels"][0]["layers"])
    widget.send = lambda content, buffers: sent.append((content, buffers))
    widget._handle_custom_msg({"fetch": {"panel": 0, "layer": 1}}, [])
    assert sent == [({"panel": 0, "layer": 1}, [whole["rows"], whole["scale"], whole["prefixMass"]])]


def test_classifiers_and_a_photograph() -> None:
    clf = tiny.classifier(tiny.vit(), name="one")
    widget = hover([clf, clf], data.photo("cat"))
    assert [panel["model"] for panel in widget.state["panels"]] == ["one", "one"]
    again = hover(clf, tiny.images(1))
    assert Image.open(io.BytesIO(again.state["panels"][0]["photo"])).size == (32, 32)


def test_what_does_not_fit_together() -> None:
    clf = tiny.classifier(tiny.vit())
    found = traced(clf)
    for models, photo in [([clf, found], 0), (found, data.photo("cat")), (clf, 0), ([], 0)]:
        with pytest.raises(TypeError, match="hover needs classifiers and a photograph, or traces"):
            hover(models, photo)
