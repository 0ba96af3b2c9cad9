"""What is found in tables whose mistakes are known, and maps whose place is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rendered import classifier

import vizlib as vl
from vizlib.dataset.grouping import Neighbours
from vizlib.dataset.places import locate, mass_inside


def table(model, labels, predictions, confidence):
    n = len(labels)
    names = sorted(set(labels) | set(predictions) | {"cat", "dog", "fox"})
    return pd.DataFrame(
        {
            "row": range(n), "path": [f"{i}.png" for i in range(n)], "label": labels, "prediction": predictions,
            "correct": [a == b for a, b in zip(labels, predictions, strict=True)], "confidence": confidence,
            "label_index": [names.index(v) for v in labels], "prediction_index": [names.index(v) for v in predictions],
            "model": model,
        }
    )  # fmt: skip


LABELS = ["cat"] * 4 + ["dog"] * 6
A = table("a", LABELS, ["cat", "dog", "dog", "fox"] + ["dog"] * 6, [0.9, 0.8, 0.95, 0.5] + [0.6] * 6)
B = table("b", LABELS, ["cat", "cat", "dog", "cat"] + ["dog"] * 5 + ["fox"], [0.5] * 9 + [0.7])


def test_tables_by_hand():
    found = vl.dataset.mistakes([A, B])
    assert found.summary["accuracy"].tolist() == [0.7, 0.8]
    assert found.confident["row"].tolist() == [2, 1, 9, 3, 2]
    top = found.pairs.iloc[0]
    assert (top["model"], top["label"], top["prediction"], top["photos"], top["share"]) == ("a", "cat", "dog", 2, 0.5)
    known = [(r.path, r.right, r.wrong, r.predictions) for r in found.disagreements.itertuples()]
    assert known == [("1.png", "b", "a", "dog"), ("9.png", "a", "b", "fox"), ("3.png", "b", "a", "fox")]
    worst = found.classes.iloc[0]
    assert (worst["model"], worst["label"], worst["recall"], worst["precision"]) == ("a", "cat", 0.25, 1.0)
    dog = found.calibration.query("model == 'a' and prediction == 'dog'").iloc[0]
    assert dog["photos"] == 8
    assert dog["gap"] == pytest.approx((0.8 + 0.95 + 3.6) / 8 - 6 / 8)
    assert found.confusion("a").loc["cat"].tolist() == [1, 2, 1]
    assert "does not say where its results lie" in found.notes["label_errors"]
    assert "confident (5)" in str(found)


def test_tables_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="the same photographs are needed for every model; a has 10, b 9"):
        vl.dataset.mistakes([A, B.iloc[1:]])
    other = B.assign(label="tom")
    with pytest.raises(
        ValueError, match=r"the same labels are needed for every model; 0\.png is 'cat' to a and 'tom' to b"
    ):
        vl.dataset.mistakes([A, other])
    with pytest.raises(ValueError, match="two tables have the same"):
        vl.dataset.mistakes([A, A])
    for empty in ([], A.iloc[:0]):
        with pytest.raises(ValueError, match="rows in it is needed"):
            vl.dataset.mistakes(empty)


def test_the_share_of_a_map_inside_a_mask_by_hand():
    """Two by two cells over four by four pixels; the mask covers the upper left cell and half of the lower left."""
    maps = np.array([[[3.0, -5.0], [2.0, 1.0]], [[-1.0, -1.0], [-2.0, -1.0]]])
    masks = np.zeros((2, 4, 4), bool)
    masks[:, :3, :2] = True
    first, second = mass_inside(maps, masks)
    assert first == (pytest.approx((3 + 0.5 * 2) / 6), 6 / 16)
    assert np.isnan(second[0])  # nothing is positive
    assert np.isnan(mass_inside(maps[:1], masks[:1] & False)[0][0])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Predictions of an untrained model on rendered pictures, with maps."""
    place, clf = tmp_path_factory.mktemp("run"), classifier()
    made = vl.data.shortcuts(40, size=32, mark="chance")
    found = vl.dataset.predict(clf, made.save(place / "photos"), out=place / "out", methods="gradcam")
    order = [next(i for i in range(40) if found["path"].iloc[row].endswith(made.name(i))) for row in range(40)]
    return clf, found, made, order


def test_maps_are_located_by_masks_and_by_boxes_alike(run, tmp_path):
    clf, found, made, order = run
    maps = vl.dataset.explain(clf, found)["gradcam"]
    boxes, masks = [], np.zeros_like(made.objects)
    for row, i in enumerate(order):
        rows, columns = (np.flatnonzero(made.objects[i].any(axis)) for axis in (1, 0))
        masks[row, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        boxes.append([made.name(i), columns[0], rows[0], columns[-1], rows[-1]])
    pd.DataFrame(boxes, columns=["file", "xmin", "ymin", "xmax", "ymax"]).to_csv(tmp_path / "boxes.csv", index=False)
    by_box = locate(clf, found, maps, tmp_path / "boxes.csv")
    by_mask = locate(clf, found, maps, masks)
    pd.testing.assert_frame_equal(by_box, by_mask)
    assert by_mask["object_share"].to_numpy() == pytest.approx(masks.mean((1, 2)))
    ranked = vl.dataset.mistakes(by_mask)
    assert (ranked.elsewhere["inside"] < ranked.elsewhere["object_share"]).all()
    assert len(ranked.elsewhere) == ((by_mask["inside"] < by_mask["object_share"]) & ~by_mask["correct"]).sum()
    with pytest.raises(ValueError, match="none of 40 rows has both"):
        locate(
            clf, found, maps, pd.DataFrame([["x.png", 0, 0, 1, 1]], columns=["file", "xmin", "ymin", "xmax", "ymax"])
        )
    with pytest.raises(ValueError, match=r"masks .* or boxes with columns"):
        locate(clf, found, maps, [1, 2])


def test_maps_of_the_label_and_of_some_rows(run):
    clf, found, _, _ = run
    wrong = found[~found["correct"]].head(5)
    maps = vl.dataset.explain(clf, wrong, about="label")["gradcam"]
    assert maps.rows.tolist() == wrong["row"].tolist()
    each = [vl.explain(clf, p, target=t).values[0].numpy() for p, t in zip(wrong["path"], wrong["label"], strict=True)]
    np.testing.assert_allclose(maps.read(), each, atol=1e-3 * np.abs(each).max())
    with pytest.raises(ValueError, match="it was not asked for"):
        maps.read([int(found[found["correct"]]["row"].iloc[0])])
    with pytest.raises(ValueError, match="rows in it is needed"):
        vl.dataset.explain(clf, found.iloc[:0])
    with pytest.raises(ValueError, match=r"a table of other .* got one of tiny"):
        vl.dataset.explain(classifier("other"), found)


def test_mistakes_are_grouped_and_neighbours_are_near(run):
    pytest.importorskip("sklearn")
    _, found, _, _ = run
    groups = vl.dataset.mistakes(found).groups
    assert sorted(row for rows in groups["rows"] for row in rows) == found[~found["correct"]]["row"].tolist()
    assert groups["name"].str.contains(" → ").all()
    near = Neighbours(found)
    close = near.of(near.features[7], 40, without=found["path"][7])
    cosine = near.features @ near.features[7]
    assert close["row"].tolist() == [i for i in np.argsort(-cosine, kind="stable") if i != 7]
    assert close["similarity"].is_monotonic_decreasing


def test_a_planted_label_error_is_suspected(monkeypatch):
    """Probabilities that are right everywhere but in one row, whose label is wrong."""
    pytest.importorskip("cleanlab")
    truth = np.arange(60) % 3
    share = np.full((60, 3), 0.02, np.float32)
    share[np.arange(60), truth] = 0.96
    names = np.array(["cat", "dog", "fox"])
    given = truth.copy()
    given[11] = (truth[11] + 1) % 3
    sure = table("a", names[given].tolist(), names[truth].tolist(), [0.96] * 60)
    arrays = SimpleNamespace(arrays=lambda column, rows: share[np.asarray(rows)])
    monkeypatch.setattr("vizlib.dataset.grouping.results_of", lambda _: arrays)
    found = vl.dataset.mistakes(sure).label_errors
    assert found["row"].tolist() == [11]
    assert found["suggested"].tolist() == [names[truth[11]]]
