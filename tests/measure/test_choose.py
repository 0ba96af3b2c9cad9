"""The chooser: by hand on a table of five rows, on the published table, and its refusals."""

from __future__ import annotations

import pandas as pd
import pytest

from vizlib.measure import choose as module
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
    assert "not known" in found.notes[0]
    assert choose(table=ROWS, resolution=200).notes == ()


def test_latency_is_measured_from_the_best_on_and_what_cannot_be_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def latency(model: str, size: int, limit: float | None) -> float:
        asked.append(model)
        return {"a": 1.0, "b": 3.0, "d": 8.0}[model]

    monkeypatch.setattr(module, "_latency", latency)
    monkeypatch.setattr(module, "product_rate", lambda: 500.0)  # 10⁹ a second: 5 ms are 2.5, with Winograd 10
    found = choose(table=ROWS, latency_ms=5)
    assert asked == ["d", "b"]  # c needs 20 GMACs
    assert found.rows[["model", "latency_ms"]].to_numpy().tolist() == [["b", 3.0]]
    assert "1 were not measured" in found.notes[0]
    assert choose(table=ROWS, first="latency_ms", latency_ms=5).rows["model"].tolist() == ["a", "b"]


def test_on_the_published_table() -> None:
    found = choose(gmacs=5, params=30e6, more_data=False)
    assert (found.rows["gmacs"] <= 5).all()
    assert found.rows["accuracy"].is_monotonic_decreasing
    assert found.steps[0][1] == 123


def test_a_small_model_of_the_table_is_timed() -> None:
    assert 0 < module._latency("zoo/vit", 64, 1e4) < 1e4


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"accuracy": 82}, "For 82 % pass 0.82"),
        ({"gmacs": -1}, "positive number; got -1"),
        ({"params": 1e5}, "The nearest is a with params 1e\\+06. Loosen"),
        ({"accuracy": 0.95}, "The nearest is c with accuracy 0.9"),
        ({"resolution": 600}, "The nearest is d with image_px 512"),
        ({"first": "speed"}, "got 'speed'"),
    ],
)
def test_refusals(limits: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(table=ROWS, **limits)  # type: ignore[arg-type]
