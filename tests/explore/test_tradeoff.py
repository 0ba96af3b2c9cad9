"""Trade-off and chooser as users call them: tables, files, widgets, refusals."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import tiny
from PIL import Image

from vizlib import cli
from vizlib.explore.chooser import CHOICES, chooser
from vizlib.explore.tradeoff import tradeoff
from vizlib.measure.checkpoints import front
from vizlib.measure.checkpoints import published as read_published
from vizlib.show.tradeoff import tradeoff_page, tradeoff_state


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    return tradeoff("published").table


def test_the_front_is_that_of_each_data_set(published: pd.DataFrame) -> None:
    other = published.head(3).assign(dataset="another", accuracy=[0.1, 0.2, 0.3], gmacs=[1.0, 2.0, 3.0])
    both = tradeoff(pd.concat([published, other], ignore_index=True))
    assert len(both.front) == len(front(published)) + 3


def test_files_of_every_kind(published: pd.DataFrame, tmp_path: Path) -> None:
    few = tradeoff(published.head(12))
    for name in ("x.html", "deep/x.png", "x.svg", "x.csv"):
        assert few.save(tmp_path / name).stat().st_size > 500
    assert Image.open(tmp_path / "deep/x.png").width > 800
    assert len(pd.read_csv(tmp_path / "x.csv")) == 12
    with pytest.raises(ValueError, match=r"ends in \.html.*got 'x\.gif'"):
        few.save(tmp_path / "x.gif")


def test_models_of_yours_need_a_known_accuracy() -> None:
    with pytest.raises(ValueError, match="whose accuracy is known"):
        tradeoff([tiny.classifier(tiny.CNN(), name="mine")])
    with pytest.raises(ValueError, match=r"got 'speed'\. Name one of: gmacs"):
        tradeoff("zoo", cost="speed")


def test_latency_is_measured_for_named_models() -> None:
    found = tradeoff("zoo/vit", cost="latency_ms")
    assert found.table["latency_ms"].between(0, 1e5).all()
    with pytest.raises(ValueError, match="no value there"):
        tradeoff(found.table.assign(latency_ms=float("nan")), cost="latency_ms")


def test_a_latency_that_would_take_long_is_refused_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vizlib.explore.tradeoff.measured", None)
    for asked in ({"cost": "latency_ms"}, {"latency": True}):
        with pytest.raises(ValueError, match="whose 123 would take long"):
            tradeoff("published", **asked)  # type: ignore[arg-type]


def test_all_together_are_drawn_against_the_latency_of_those_that_have_one(
    published: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def zoo(*, latency: bool) -> pd.DataFrame:
        asked.append(latency)
        return published.head(2).assign(dataset="small", latency_ms=[1.0, 2.0])

    monkeypatch.setattr("vizlib.explore.tradeoff.trained_zoo", zoo)
    found = tradeoff(cost="latency_ms")
    assert asked == [True]
    assert len(found.figure().axes) == 1
    assert "latency_ms" in tradeoff_state(tradeoff().table, "gmacs", "")["costs"]


def test_a_table_of_yours_needs_few_columns() -> None:
    own = pd.DataFrame({"model": ["mine", "yours"], "accuracy": [0.7, 0.9], "params": [1e6, 9e6]})
    found = tradeoff(own, cost="params")
    assert len(found.figure().axes) == 1
    assert "mine" in tradeoff_page(found.table, "params")
    with pytest.raises(ValueError, match="model and accuracy not found among its columns: x"):
        tradeoff(pd.DataFrame({"x": [1]}))


def test_a_click_opens_the_explorer_or_says_why_not(published: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr("vizlib.explore.tradeoff.explorer", lambda models: opened.append(models) or tiny_panel())
    panel = tradeoff(published.head(5)).show()
    panel.plots._handle_custom_msg({"open": "zoo/vit"}, [])
    assert opened == [["zoo/vit"]]

    def fails(_models: list[str]) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("vizlib.explore.tradeoff.explorer", fails)
    panel.plots._handle_custom_msg({"open": "timm/resnet18.a1_in1k"}, [])
    assert "could not be opened: no network" in panel.opened.children[0].value


def tiny_panel() -> object:
    from ipywidgets import HTML

    return HTML("the explorer")


def test_the_chooser_says_what_each_limit_left(published: pd.DataFrame) -> None:
    panel = chooser(published)
    panel.limits["gmacs"].value = 5
    panel.more_data.value = False
    assert panel.chosen is not None
    assert (panel.chosen.rows["gmacs"] <= 5).all()
    assert not panel.chosen.rows["more_data"].any()
    best = panel.chosen.best["model"]
    assert f"vl.load(&quot;{best}&quot;)" in panel.answer.value
    panel.first.value = "params"
    assert panel.chosen.rows["params"].is_monotonic_increasing
    panel.limits["accuracy"].value = 0.9
    assert panel.chosen is None
    assert "Loosen a limit" in panel.answer.value


def test_the_chooser_asks_for_the_device_and_the_photographs_and_tells_the_path() -> None:
    panel = chooser()
    panel.limits["device"].value = "phone"
    panel.limits["photographs"].value = 1000
    assert panel.chosen is not None
    assert panel.chosen.rows["more_data"].all()
    for said in ("for a phone: gmacs at most 2.1", "few photographs to learn from (1,000", "articles advise a hybrid"):
        assert said in panel.answer.value


def test_the_chooser_says_what_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    panel = chooser()
    monkeypatch.setattr("vizlib.measure.latency.model_ms", lambda *_: seen.append(panel.answer.value) or 10.0)
    panel.limits["latency_ms"].value = 20
    assert "Measuring on this machine: timing timm/mobilenetv3" in seen[0]
    assert "latency_ms at most 20" in panel.answer.value


def test_the_sizes_that_are_offered_are_priced_exactly() -> None:
    costs = read_published()
    own = costs[costs["image_px"] == costs["accuracy_px"]]
    for label, size in CHOICES["resolution"][1:]:
        smaller = own[own["accuracy_px"] < size]["model"]
        priced = costs[costs["image_px"] == size]["model"]
        built_for_one_size = {"timm/efficientformer_l1.snap_dist_in1k", "timm/crossvit_small_240.in1k"}
        assert set(smaller) - set(priced) == built_for_one_size, label


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["choose", "--gmacs", "1", "--params", "10e6", "--alone"]) == 0
    assert "gmacs at most 1" in capsys.readouterr().out
    assert cli.main(["choose", "--params", "10M", "--device", "phone", "--photographs", "3k"]) == 0
    assert "params at most 1e+07" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["choose", "--gmacs", "5G"])
    assert "a number in 10⁹ multiply-accumulates is needed; got '5G'" in capsys.readouterr().err
    assert cli.main(["choose", "--accuracy", "82"]) == 2
    assert "pass 0.82" in capsys.readouterr().err
    out = tmp_path / "x.html"
    assert cli.main(["tradeoff", "zoo/vit", "zoo/hybrid", "--out", str(out)]) == 0
    assert "zoo/hybrid" in out.read_text()
    assert cli.main(["tradeoff", "zoo", "--cost", "speed"]) == 2
