"""The chooser: by hand on a table of five rows, on the published table, at sizes, on a clock, and its refusals."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from vizlib.measure import latency
from vizlib.measure.advice import gains_of_more_data
from vizlib.measure.checkpoints import published
from vizlib.measure.choose import choose

ROWS = pd.DataFrame(
    {
        "model": ["a", "b", "c", "d", "d"],
        "family": "CNN",
        "accuracy": [0.7, 0.8, 0.9, 0.85, 0.85],
        "accuracy_px": 224,
        "image_px": [224, 224, 224, 224, 512],
        "more_data": [False, False, True, False, False],
        "params": [1e6, 5e6, 9e6, 7e6, 7e6],
        "gmacs": [1.0, 2.0, 20.0, 4.0, 21.0],
        "memory_mb": [10.0, 20.0, 90.0, 30.0, 90.0],
        "latency_ms": float("nan"),
        "source": "a test",
    }
)


def test_limits_by_hand_and_what_each_left() -> None:
    found = choose(table=ROWS, gmacs=5, params=8e6)
    assert found.rows["model"].tolist() == ["d", "b", "a"]
    assert found.best["model"] == "d"
    assert [left for _, left in found.steps] == [4, 3, 3]
    assert "gmacs at most 5" in str(found)
    assert "the most accurate first" in str(found)


def test_an_accuracy_alone_asks_for_the_cheapest() -> None:
    assert choose(table=ROWS, accuracy=0.8).rows["model"].tolist() == ["b", "d", "c"]
    assert choose(table=ROWS, accuracy=0.8, first="accuracy").best["model"] == "c"
    assert choose(table=ROWS, accuracy=0.8, more_data=False).rows["model"].tolist() == ["b", "d"]


def test_a_resolution_takes_the_costs_at_that_size_and_says_so() -> None:
    found = choose(table=ROWS, resolution=300)
    assert (found.best["model"], found.best["gmacs"], found.best["image_px"]) == ("d", 21.0, 512)
    assert "1 at the next larger size in the table" in found.notes[0]
    assert "not known" in found.notes[1]
    assert choose(table=ROWS, resolution=200).notes == (
        "Costs are for image_px: 4 at the size of their accuracy, which is larger.",
    )


def test_a_size_between_two_of_the_table_is_counted_where_a_limit_hangs_on_it() -> None:
    resnet = published()
    resnet = resnet[resnet["model"] == "timm/resnet18.a1_in1k"]
    resnet = resnet[resnet["image_px"].isin([224, 512])]  # 1.81 and 9.48 GMACs
    found = choose(table=resnet, resolution=256, gmacs=2.5)
    assert found.best["image_px"] == 256
    assert found.best["gmacs"] == pytest.approx(1.8141 * (256 / 224) ** 2, rel=1e-3)
    assert choose(table=resnet, resolution=256, gmacs=10).best["image_px"] == 512  # fits all the same: not counted


def test_what_the_panel_offers_is_in_the_table_at_its_size() -> None:
    best = choose(resolution=256, gmacs=5.5).rows.set_index("model")
    assert best.loc["timm/resnet50.a1_in1k", ["image_px", "gmacs"]].tolist() == [256, 5.3403]


class Clock:
    """Milliseconds of models by hand; a second passes with each."""

    def __init__(self, ms: dict[str, float]) -> None:
        self.ms, self.asked, self.now = ms, [], 0.0

    def model_ms(self, model: str, size: float, limit: float | None) -> float:
        self.asked.append(model)
        self.now += 1
        return self.ms[model]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock({"a": 1.0, "b": 3.0, "d": 8.0, "c": 90.0})
    monkeypatch.setattr(latency, "model_ms", clock.model_ms)
    monkeypatch.setattr(latency.time, "monotonic", lambda: clock.now)
    return clock


def test_the_small_tell_what_to_expect_and_the_best_within_the_limit_ends_the_timing(clock: Clock) -> None:
    said: list[str] = []
    found = choose(table=ROWS, latency_ms=5, tell=said.append)
    assert clock.asked == ["a", "d", "b"]  # a, then where 5 ms should be; c would take 40 ms or more
    assert [line.split(",")[0] for line in said] == ["timing a", "timing d", "timing b"]
    assert found.rows[["model", "latency_ms"]].to_numpy().tolist() == [["b", 3.0], ["a", 1.0]]
    assert "1 since others of their family make one expect over 5 ms" in found.notes[0]


def test_time_is_bounded_and_the_fastest_are_asked_first(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(table=ROWS, first="latency_ms", latency_ms=5).rows["model"].tolist() == ["a", "b"]
    clock.asked.clear()
    monkeypatch.setattr(latency, "SECONDS", 1.5)
    found = choose(table=ROWS, first="latency_ms")
    assert clock.asked == ["a", "b"]
    assert "2 since time was up" in found.notes[0]


def test_no_limit_asks_for_the_ten_fastest_and_not_for_all(clock: Clock) -> None:
    many = pd.concat([ROWS.iloc[[0]].assign(model=str(i), gmacs=1.0 + i) for i in range(40)], ignore_index=True)
    clock.ms = {str(i): 1.0 + i for i in range(40)}
    assert choose(table=many, first="latency_ms").rows["model"].tolist() == [str(i) for i in range(10)]
    assert len(clock.asked) == 10


def test_latencies_that_the_table_knows_are_used(clock: Clock) -> None:
    own = pd.DataFrame({"model": ["mine", "yours"], "accuracy": [0.7, 0.9], "latency_ms": [20.0, 70.0]})
    found = choose(table=own, latency_ms=50)
    assert found.rows["model"].tolist() == ["mine"]
    assert not clock.asked
    with pytest.raises(ValueError, match=r"none of 2 .* The nearest is mine with latency_ms 20"):
        choose(table=own, latency_ms=10)


def test_on_the_published_table() -> None:
    found = choose(gmacs=5, params=30e6, more_data=False)
    assert (found.rows["gmacs"] <= 5).all()
    assert found.rows["accuracy"].is_monotonic_decreasing
    assert found.steps[0][1] == 123


def test_a_small_model_of_the_table_is_timed() -> None:
    assert 0 < latency.model_ms("zoo/vit", 64, 1e4) < 1e4


def test_a_phone_and_few_photographs_narrow_the_rows_and_say_why() -> None:
    found = choose(device="phone", photographs=3000)
    assert (found.rows["gmacs"] <= 2.1).all()
    assert found.rows["more_data"].all()
    assert "arXiv 2110.02178" in str(found)
    rows = published().query("image_px == accuracy_px")
    pairs = gains_of_more_data(rows)
    assert f"{pairs.median():+.1f} points, the middle of {len(pairs)} architectures" in str(found)
    convolutions = choose(photographs=3000, more_data=False).rows
    assert set(convolutions["family"]) == {"CNN", "hybrid"}
    assert len(choose(photographs=10**6, device="server").rows) == 123


def test_the_gain_of_more_data_by_hand() -> None:
    rows = pd.DataFrame(
        {
            "model": ["x.a", "x.b", "x.c", "y.a", "x.d"],
            "accuracy": [0.8, 0.82, 0.85, 0.9, 0.99],
            "accuracy_px": [224, 224, 224, 224, 384],
            "more_data": [False, False, True, True, True],
        }
    )
    assert gains_of_more_data(rows).round(6).tolist() == [3.0]


def test_the_path_through_the_articles_trees_and_how_their_choice_stands() -> None:
    def cases(**asked: object) -> list[str]:
        return [line.partition(":")[0] for line in choose(**asked).advice]  # type: ignore[arg-type]

    assert cases() == ["accuracy first"]
    assert cases(gmacs=20) == ["accuracy within a budget"]
    assert cases(device="phone", photographs=100) == ["efficiency first", "a phone", "few photographs"]
    assert cases(accuracy=0.8, resolution=1024) == ["accuracy first", "images of 1024 pixels and more"]
    line = choose(gmacs=20, more_data=False).advice[0]
    rows = choose(gmacs=20, more_data=False).rows
    swin = rows[rows["model"].str.startswith("timm/swin_base")].iloc[0]
    assert f"{swin['model']}, is number {swin.name + 1} of {len(rows)}" in line
    assert f"{100 * (swin['accuracy'] - rows['accuracy'][0]):+.1f} points" in line
    assert "none of their 3 rows keeps" in choose(gmacs=5).advice[0]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"accuracy": 82}, "For 82 % pass 0.82"),
        ({"gmacs": -1}, "positive number; got -1"),
        ({"params": 1e5}, "The nearest is a with params 1e\\+06. Loosen"),
        ({"accuracy": 0.95}, "The nearest is c with accuracy 0.9"),
        ({"resolution": 600}, "none of the 4 classifiers has that; the table knows 512 pixels at most"),
        ({"resolution": 256.5}, "whole number; got 256.5"),
        ({"device": "toaster"}, "one of phone, server; got 'toaster'"),
        ({"table": ROWS.drop(columns="accuracy")}, "accuracy not found among its columns: model, family"),
        ({"table": ROWS[["model", "accuracy"]]}, "a cost \\(gmacs, params, memory_mb, latency_ms\\) not found"),
        ({"table": ROWS.assign(accuracy=70.0)}, "got 70 to 70. For 82 % write 0.82"),
        ({"table": ROWS.assign(gmacs="5")}, "gmacs needs numbers"),
        ({"first": "speed"}, "got 'speed'"),
    ],
)
def test_refusals(limits: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(**{"table": ROWS} | limits)  # type: ignore[arg-type]


def test_a_text_is_no_number() -> None:
    with pytest.raises(TypeError, match="gmacs needs a number; got '5'"):
        choose(gmacs="5")  # type: ignore[arg-type]


def test_a_table_with_few_columns_is_enough() -> None:
    own = pd.DataFrame({"model": ["mine", "yours"], "accuracy": [0.7, 0.9], "params": [1e6, 9e6]})
    assert choose(table=own, params=5e6).rows["model"].tolist() == ["mine"]
    assert "mine" in str(choose(table=own))
    with pytest.raises(ValueError, match=re.escape("knows no size (column image_px)")):
        choose(table=own, resolution=256)
