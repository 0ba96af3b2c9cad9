"""The picture of a trade-off: what lies where, in which colours, with which names."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from vizlib.show.scatter import FAMILIES, amount, figure
from vizlib.show.tradeoff import html_table, tradeoff_page, tradeoff_state

ROWS = pd.DataFrame(
    {
        "model": ["timm/a.x", "timm/b.y", "timm/c.z", "zoo/d", "zoo/e"],
        "family": ["CNN", "Transformer", "CNN", "CNN", "hybrid"],
        "dataset": ["ImageNet", "ImageNet", "ImageNet", "small", "small"],
        "accuracy": [0.7, 0.8, 0.75, 0.6, 0.65],
        "low": [np.nan, np.nan, np.nan, 0.55, 0.6],
        "high": [np.nan, np.nan, np.nan, 0.65, 0.7],
        "accuracy_px": [224, 224, 224, 64, 64],
        "image_px": [224, 224, 224, 64, 64],
        "more_data": [False, True, False, False, False],
        "params": [1e6, 2e6, 4e7, 1e5, 2e5],
        "gmacs": [1.0, 10.0, 100.0, 0.1, 0.12],
        "attention_gmacs": [0.0, 1.0, 0.0, 0.0, 0.01],
        "memory_mb": [10.0, 20.0, 300.0, 1.0, 2.0],
        "latency_ms": np.nan,
        "source": ["a </script><b>paper</b>"] * 5,
    }
)


def test_an_axes_per_data_set_with_the_values_where_they_belong() -> None:
    plot = figure(ROWS)
    imagenet, small = plot.axes
    assert (imagenet.get_xscale(), imagenet.get_title(), small.get_title()) == ("log", "ImageNet", "small")
    marks = [c for c in imagenet.collections if isinstance(c, PathCollection)]
    points = {tuple(p): to_hex(c.get_edgecolor()[0]) for c in marks for p in np.asarray(c.get_offsets())}
    assert points == {
        (1.0, 70.0): FAMILIES["CNN"][0].lower(),
        (100.0, 75.0): FAMILIES["CNN"][0].lower(),
        (10.0, 80.0): FAMILIES["Transformer"][0].lower(),
    }
    hollow = next(c for c in marks if len(c.get_offsets()) and tuple(c.get_offsets()[0]) == (10.0, 80.0))
    assert to_hex(hollow.get_facecolor()[0]) == "#ffffff"
    assert {text.get_text() for text in imagenet.texts} <= {"a", "b", "c"}
    assert {text.get_text() for text in small.texts} == {"d", "e"}


def test_fronts_of_the_alone_and_of_all() -> None:
    imagenet = figure(ROWS).axes[0]
    alone, everyone = (line.get_xydata().tolist() for line in imagenet.lines[:2])
    assert alone == [[1.0, 70.0], [100.0, 75.0]]
    assert everyone == [[1.0, 70.0], [10.0, 80.0]]


def test_names_do_not_overlap_on_the_drawn_figure() -> None:
    rows = pd.concat([ROWS.iloc[:3]] * 12, ignore_index=True)
    rows["gmacs"] *= np.random.default_rng(0).uniform(0.3, 3, len(rows))
    rows["model"] = [f"timm/model_number_{i}.x" for i in range(len(rows))]
    ax = figure(rows).axes[0]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) > 8
    assert not [
        1 for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a.shrunk(0.98, 0.9).overlaps(b.shrunk(0.98, 0.9))
    ]


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(ValueError, match="none of 5 has both"):
        figure(ROWS, "latency_ms")


def test_a_front_strikes_through_no_name() -> None:
    random = np.random.default_rng(1)
    rows = pd.concat([ROWS.iloc[:1]] * 40, ignore_index=True)
    rows["gmacs"], rows["model"] = random.uniform(1, 100, 40), [f"timm/network_{i}.x" for i in range(40)]
    rows["accuracy"] = 0.5 + 0.08 * np.log10(rows["gmacs"]) + random.uniform(0, 0.1, 40)
    ax = figure(rows).axes[0]
    corners = ax.transData.transform(ax.lines[0].get_xydata())
    assert len(corners) > 4
    for text in ax.texts:
        box = text.get_window_extent()
        for (x0, y0), (x1, y1) in pairwise(corners):
            assert not (x0 < box.x1 and x1 > box.x0 and box.y0 < y0 < box.y1), text
            assert not (box.x0 < x1 < box.x1 and y0 < box.y1 and y1 > box.y0), text


def test_two_tags_of_one_architecture_have_two_names() -> None:
    rows = ROWS.assign(model=["timm/a.x", "timm/a.y", "timm/c.z", "zoo/a", "zoo/e"])
    assert {text.get_text() for text in figure(rows).axes[0].texts} <= {"a.x", "a.y", "c"}
    assert [row["short"] for row in tradeoff_state(rows, "gmacs", "")["rows"]] == ["a.x", "a.y", "c", "a", "e"]


def test_percents_are_what_they_say() -> None:
    axis = figure(ROWS.assign(accuracy=[0.615, 0.79, 0.7, 0.6, 0.65])).axes[0].yaxis
    for place, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True):
        assert float(label.get_text().removesuffix(" %")) == pytest.approx(place)


def test_the_table_says_the_data_set() -> None:
    first = re.findall(r"<tr>\s*<td>(.*?)</td>", html_table(ROWS))
    assert first == ["ImageNet"] * 3 + ["small"] * 2


def test_amounts() -> None:
    assert [amount(v) for v in (25.6e6, 1.2e9, 12345, 4.089, 0.0847)] == ["25.6 M", "1.2 G", "12,345", "4.09", "0.0847"]


def test_the_state_is_json_without_nan_and_the_page_stands_alone() -> None:
    state = tradeoff_state(ROWS, "gmacs", "hint")
    assert json.loads(json.dumps(state, allow_nan=False)) == json.loads(json.dumps(state))
    assert state["datasets"] == ["ImageNet", "small"]
    assert state["present"] == ["CNN", "Transformer", "hybrid"]
    assert list(state["costs"]) == ["gmacs", "params", "memory_mb"]  # no latency was measured
    assert state["rows"][0]["low"] is None
    page = tradeoff_page(ROWS, "gmacs")
    assert page.count("</script>") == 2
    assert not re.search(r"(src|href)=", page)
    assert "import {" not in page
