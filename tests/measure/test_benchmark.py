"""The benchmark of methods and models: resumed, with reasons, read by method="auto"; planted truth; drawings."""

from __future__ import annotations

import pandas as pd
import pytest
import tiny
import torch

import vizlib as vl
from vizlib.measure import benchmark as module
from vizlib.measure.benchmark import DIFFERENCE
from vizlib.methods import auto
from vizlib.models.fit import NETWORKS, fit

METHODS = ("gradcam", "rollout")


@pytest.fixture(scope="module")
def cnn():
    return tiny.classifier(tiny.CNN(), name="cnn")


@pytest.fixture(scope="module")
def vit():
    return tiny.classifier(tiny.vit(), name="vit")


def test_a_row_for_each_and_a_reason_where_there_is_none(cnn, vit):
    x = tiny.images(6)
    table = vl.benchmark([cnn, vit], x, METHODS, steps=4, cells=4)
    scored = table[table.metric != ""]
    assert len(scored) == 3 * 3  # two methods on the ViT, one on the CNN
    (refused,) = table[table.metric == ""].itertuples()
    assert (refused.model, refused.method) == ("cnn", "rollout")
    assert "no attention" in refused.reason
    assert set(scored.family) == {"CNN", "Transformer"}
    assert (scored.low <= scored["mean"]).all()
    assert (scored["mean"] <= scored.high).all()
    assert scored[scored.method == "rollout"].class_blind.all()
    one = scored[(scored.model == "vit") & (scored.method == "gradcam")].set_index("metric")["mean"]
    heat = vl.explain(vit, x, "gradcam")
    for metric in ("insertion", "deletion"):
        expected = vl.faithfulness(vit, x, heat, metric, steps=4, cells=4, draws=0).auc.mean().item()
        assert one[metric] == pytest.approx(expected, abs=1e-4)
    assert one[DIFFERENCE] == pytest.approx(one["insertion"] - one["deletion"], abs=2e-4)


def test_a_run_that_was_stopped_goes_on(vit, tmp_path, monkeypatch):
    x, out = tiny.images(3), tmp_path / "deep" / "table.csv"
    whole = vl.benchmark(vit, x, METHODS, steps=3, cells=4)
    calls, real = [], module._cell

    def stopping(*given):
        calls.append(given[2])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(module, "_cell", stopping)
    with pytest.raises(KeyboardInterrupt):
        vl.benchmark(vit, x, METHODS, steps=3, cells=4, out=out)
    assert set(pd.read_csv(out).method) == {"gradcam"}
    resumed = vl.benchmark(vit, x, METHODS, steps=3, cells=4, out=out)
    assert calls == ["gradcam", "rollout", "rollout"]
    columns = ["method", "metric", "mean", "low", "high", "key"]
    pd.testing.assert_frame_equal(resumed[columns], whole[columns])
    vl.benchmark(vit, x, METHODS, steps=3, cells=4, out=out)
    assert len(calls) == 3, "nothing is made again"
    vl.benchmark(vit, x, ("gradcam",), steps=2, cells=4, out=out)
    assert len(calls) == 4, "other settings are"
    assert len(pd.read_csv(out)) == 6


def test_models_of_one_name_are_told_apart(cnn):
    other = tiny.classifier(tiny.CNN(), name="cnn")
    table = vl.benchmark([cnn, other], tiny.images(3), "gradcam", metrics="deletion", steps=2, cells=4)
    assert list(table.model) == ["cnn", "cnn (2)"]
    assert set(vl.benchmark({"mine": cnn}, tiny.images(2), "gradcam", metrics="deletion", steps=2).model) == {"mine"}


def test_the_table_by_families_has_means_over_their_members():
    numbers = {"low": 0.0, "high": 0.5, "random": -0.1, "centre": 0.1, "metric": DIFFERENCE}
    members = [("CNN", "a", "gradcam", 0.2), ("CNN", "b", "gradcam", 0.4), ("hybrid", "c", "rollout", 0.5)]
    columns = ["family", "model", "method", "mean"]
    table = pd.DataFrame(members, columns=columns).assign(class_blind=lambda t: t.method == "rollout", **numbers)
    assert module.by_family(table).splitlines() == [
        f"| {DIFFERENCE} | CNN, 2 models | hybrid, 1 model |",
        "| --- | --- | --- |",
        "| rollout, class-blind |  | 0.50 (0.00 to 0.50) |",
        "| gradcam | 0.30 (0.00 to 0.50) |  |",
        "| a random map | -0.10 | -0.10 |",
        "| a Gaussian in the centre | 0.10 | 0.10 |",
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"methods": ["auto"]}, "a benchmark names its methods"),
        ({"methods": "gradcamm"}, "gradcam"),
        ({"metrics": ["pointing_game"]}, "where the objects lie; here nobody says"),
    ],
)
def test_what_cannot_be_done_is_told_before_the_work(cnn, asked, message):
    with pytest.raises(ValueError, match=message):
        vl.benchmark([cnn], None, **asked)


def rows(**scores):
    """Rows of the table: family -> method -> mean, half the width of its interval, seconds for all photographs."""
    return [
        {"family": family, "model": "m", "method": method, "metric": DIFFERENCE, "mean": str(mean), "random": "0.0",
         "low": str(mean - half), "high": str(mean + half), "seconds": str(seconds), "photos": "10"}
        for family, methods in scores.items()
        for method, (mean, half, seconds) in methods.items()
    ]  # fmt: skip


def test_auto_takes_the_best_that_applies_and_says_why(cnn, vit, monkeypatch):
    best = {"rollout": (0.9, 0, 1), "chefer": (0.8, 0, 1), "layercam": (0.3, 0.02, 9), "gradcam": (0.2, 0.02, 1)}
    monkeypatch.setattr(auto, "_rows", lambda: rows(CNN=best, Transformer={"chefer": (0.4, 0, 1)}))
    x = tiny.images(1)
    made = vl.explain(cnn, x, "auto")  # rollout is class-blind, and neither it nor chefer applies
    assert made.method == "layercam"
    assert "auto took layercam" in made.why
    assert "ahead of gradcam 0.20 (0.18 to 0.22)" in made.why
    assert "0.30 (0.28 to 0.32); a random map has 0.00" in made.why
    assert torch.equal(made.values, vl.explain(cnn, x, "layercam").values)
    assert vl.explain(vit, x, "auto", target=2).method == "chefer"
    assert vl.explain(cnn, x, "layercam").why == ""
    monkeypatch.setattr(auto, "_rows", lambda: rows(CNN={"chefer": (0.8, 0, 1)}))
    with pytest.raises(RuntimeError, match=r"none does\. Name a method"):
        vl.explain(cnn, x, "auto")


def test_auto_takes_the_quickest_of_those_that_cannot_be_told_apart(cnn, monkeypatch):
    level = {"integrated_gradients": (0.3, 0.06, 9), "layercam": (0.2, 0.05, 1), "gradcam": (0.25, 0.05, 2)}
    far = {"saliency": (0.1, 0.02, 0.1)}
    monkeypatch.setattr(auto, "_rows", lambda: rows(CNN=level | far))
    made = vl.explain(cnn, tiny.images(1), "auto")
    assert made.method == "layercam"
    assert "the quickest of 3 that cannot be told apart" in made.why
    assert "integrated_gradients 0.30 (0.24 to 0.36), gradcam 0.25 (0.20 to 0.30)" in made.why
    assert "single pixels" not in made.why
    monkeypatch.setattr(auto, "_rows", lambda: rows(CNN=far))
    assert "Its map is of single pixels" in vl.explain(cnn, tiny.images(1), "auto").why


def test_auto_on_the_table_that_comes_along():
    """Every row of the stored table is of a method that there is, and gives a method for each family."""
    stored = auto._rows()
    assert {row["method"] for row in stored} <= set(vl.METHODS)
    assert {"CNN", "Transformer", "hybrid"} <= {row["family"] for row in stored}
    heat = vl.explain(vl.load("zoo/seresnet"), vl.data.photo("coffee"), "auto")
    assert heat.why.startswith(f"auto took {heat.method}")
    assert (
        f"{heat.method}: espresso"
        in vl.compare("zoo/seresnet", "coffee", "auto", hover_mb=0).figure().axes[1].get_title()
    )


def _blank():
    images = torch.zeros(8, 64, 64, 3, dtype=torch.uint8).numpy()
    return images, [0] * 8, ("bare", "marked")


@pytest.mark.parametrize("network", NETWORKS)
def test_fitting_lowers_the_loss_and_leaves_the_random_state(network):
    images = torch.zeros(32, 64, 64, 3, dtype=torch.uint8).numpy()
    images[::2, :32] = 255
    labels = [0, 1] * 16
    state = torch.random.get_rng_state()
    clf = fit(network, images, labels, ("top", "none"), epochs=4)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not clf.module.training
    assert (clf(list(images)).argmax(1) == torch.tensor(labels)).float().mean() > 0.9
    assert all(p.grad is None for p in clf.module.parameters())


def test_fitting_tells_bad_input():
    with pytest.raises(ValueError, match="a network is one of cnn, vit, hybrid"):
        fit("mlp", *_blank())
    with pytest.raises(ValueError, match="a label from 0 to 1"):
        fit("cnn", _blank()[0], [2] * 8, ("a", "b"))


def test_drawings_hold_the_numbers(cnn, vit):
    x = tiny.images(5)
    table = vl.benchmark([cnn, vit], x, METHODS, steps=3, cells=4)
    ax = vl.plot.benchmark(table)
    assert [t.get_text() for t in ax.get_yticklabels()].count("rollout\n(class-blind)") == 1
    drawn = sorted(v for container in ax.containers for v in container[0].get_xdata())
    assert drawn == pytest.approx(sorted(table[table.metric == DIFFERENCE]["mean"]))
    with pytest.raises(ValueError, match="There are: deletion, insertion"):
        vl.plot.benchmark(table, "roda")
    found = vl.faithfulness(vit, x, "gradcam", steps=4)
    ax = vl.plot.curves(found)
    assert ax.lines[0].get_ydata() == pytest.approx(found.score.mean(0).numpy(), abs=1e-6)
    assert len(ax.lines) == 3
    assert "lower is better" in ax.get_title()
    blind = vl.plot.curves(vl.faithfulness(vit, x, "rollout", steps=2))
    assert "class-blind: rollout" in blind.get_title()
    assert "rollout (class-blind)" in blind.get_legend().get_texts()[0].get_text()
