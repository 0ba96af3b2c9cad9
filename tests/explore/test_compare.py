"""Comparisons: the same maps as explain's, reasons where there is none, marks, files."""

import base64
import json
import re

import matplotlib
import pytest
import tiny
import torch
from PIL import Image

from vizlib.explore.compare import compare
from vizlib.explore.rows import OUTSIDE
from vizlib.measure.cost import params_of
from vizlib.methods.table import explain

matplotlib.use("Agg")


@pytest.fixture
def models(takes_photos):
    return [takes_photos(tiny.CNN(), "cnn"), takes_photos(tiny.vit(), "vit")]


@pytest.fixture
def found(models):
    return compare(models, ["coffee", "astronaut"], ["gradcam", "rollout"])


def test_maps_are_those_of_explain_and_the_rest_has_reasons(models, found):
    assert set(found.reasons) == {("coffee", "cnn", "rollout"), ("astronaut", "cnn", "rollout")}
    assert "attention" in found.reasons["coffee", "cnn", "rollout"]
    assert len(found.heatmaps) == 6
    alone = explain(models[1], "astronaut", "rollout").values
    torch.testing.assert_close(found.heatmaps["astronaut", "vit", "rollout"].values, alone)


def test_options_go_to_the_methods_that_have_them(models, found):
    other = compare(models[1], "coffee", ["gradcam", "rollout"], discard=0.5)
    key = ("coffee", "vit")
    assert torch.equal(other.heatmaps[*key, "gradcam"].values, found.heatmaps[*key, "gradcam"].values)
    assert not torch.equal(other.heatmaps[*key, "rollout"].values, found.heatmaps[*key, "rollout"].values)
    assert [part.get_suptitle() for part in other.figure().subfigs] == ["coffee\nrollout: discard 0.5"]
    with pytest.raises(ValueError, match="got 'discard'"):
        compare(models[1], "coffee", "gradcam", discard=0.5)


def test_the_table_says_what_each_model_is_and_says(models, found):
    table = found.table.set_index(["photo", "model"])
    logits = models[1]("coffee")[0]
    row = table.loc["coffee", "vit"]
    assert row["prediction"] == tiny.LABELS[int(logits.argmax())]
    assert row["confidence"] == pytest.approx(float(logits.softmax(0).max()))
    assert (row["family"], table.loc["coffee", "cnn"]["family"]) == ("Transformer", "CNN")
    assert row["parameters"] == params_of(models[1].module)
    assert row["GMACs"] > 0
    r, c = found.heatmaps["coffee", "vit", "gradcam"].peak()[0].tolist()
    assert row["gradcam peak"] == f"({r:.2f}, {c:.2f})"
    assert table.loc["coffee", "cnn"]["rollout peak"] == ""


def test_photographs_outside_the_classes_are_marked_wherever_they_appear(takes_photos):
    clf = takes_photos(tiny.CNN(), "cnn")
    espresso = ("espresso", *tiny.LABELS[1:])
    clf = type(clf)(**vars(clf) | {"labels": espresso})
    found = compare(clf, ["coffee", "astronaut"], "gradcam")
    assert found.table["truth"].tolist() == ["espresso", OUTSIDE]
    assert OUTSIDE in found.figure("astronaut").axes[0].get_title()
    assert not any(OUTSIDE in ax.get_title() for ax in found.figure("coffee").axes)


def test_the_picture_and_the_table_say_whether_a_prediction_is_right(takes_photos):
    clf = takes_photos(tiny.CNN(), "cnn")
    said = int(clf("coffee").argmax())
    right, wrong = list(tiny.LABELS), list(tiny.LABELS)
    right[said], wrong[said - 1] = "espresso", "espresso"
    for labels, verdict, answer in ((right, "right", "yes"), (wrong, "wrong", "no")):
        found = compare(type(clf)(**vars(clf) | {"labels": tuple(labels)}), ["coffee", "astronaut"], "gradcam")
        assert found.table["right"].tolist() == [answer, "no"]
        title = found.figure("coffee").axes[0].get_title()
        assert title.startswith(labels[said])
        assert title.endswith(f"%\n{verdict}: it shows espresso")
        assert [row.note for sheet in found.sheets for row in sheet.rows] == [f"{verdict}: it shows espresso", OUTSIDE]
    assert repr(found) == str(found)
    assert "tensor" not in repr(found)


def test_no_map_at_all_is_an_error_with_the_reasons(models):
    with pytest.raises(ValueError, match=r"at least one map.*cnn, rollout"):
        compare(models[0], "coffee", "rollout")


def test_a_target_that_one_model_lacks_is_its_reason_alone(models):
    other = type(models[1])(**vars(models[1]) | {"labels": ("a", "b", "c", "d", "rocket")})
    found = compare({"first": models[0], "second": other}, "coffee", "gradcam", target="tea")
    assert set(found.heatmaps) == {("coffee", "first", "gradcam")}
    assert "'tea'" in found.reasons["coffee", "second", "gradcam"]


@pytest.mark.parametrize(
    ("models_", "photos", "methods", "message"),
    [
        ([], "coffee", "gradcam", "model is needed"),
        (None, [], "gradcam", "empty list"),
        (None, "coffee", "gradcm", "Near"),
    ],
)
def test_mistakes_are_told_before_anything_runs(models, models_, photos, methods, message):
    with pytest.raises(ValueError, match=message):
        compare(models if models_ is None else models_, photos, methods)


def test_names_are_made_distinct(models):
    photos = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    found = compare([models[0], models[0]], photos, "saliency")
    assert [sheet.photo for sheet in found.sheets] == ["photo", "photo (2)"]
    assert [row.model for row in found.sheets[0].rows] == ["cnn", "cnn (2)"]


def test_preprocessed_tensors_are_taken_as_they_are(models):
    x = tiny.images(2)
    found = compare(models[1], x, "gradcam")
    expected = explain(models[1], x, "gradcam").values
    torch.testing.assert_close(found.heatmaps["input 2", "vit", "gradcam"].values, expected[1:])


def test_saves_what_the_ending_says(found, tmp_path):
    assert "<!doctype html>" in found.save(tmp_path / "new" / "x.html").read_text()
    assert Image.open(found.save(tmp_path / "x.png")).width > 500
    assert found.save(tmp_path / "x.csv").read_text().startswith("photo,model,family")
    with pytest.raises(ValueError, match=r"\.html"):
        found.save(tmp_path / "x.jpeg")


def test_a_figure_of_an_unknown_photograph_is_refused(found):
    with pytest.raises(ValueError, match="coffee, astronaut"):
        found.figure("moon")


def test_the_saved_page_holds_the_attention_of_models_that_have_one(models, found, tmp_path):
    cnn, vit = found.sheets[0].rows
    assert "hovering needs attention over places" in cnn.attention
    assert [layer["name"] for layer in vit.attention["layers"]] == ["blocks.0.attn", "blocks.1.attn"]
    assert vit.box == pytest.approx((1 / 6 + 2 / 3 / 36, 2 / 36, 5 / 6 - 2 / 3 / 36, 34 / 36), abs=0.03)
    text = found.save(tmp_path / "both.html").read_text()
    assert text.count("data-hover=") == 2  # one per photograph
    state = json.loads(re.search(r'id="vl-state">(.*?)</script>', text, re.S).group(1))
    (panel,) = state["hover"][0]
    assert base64.b64decode(panel["layers"][1]["rows"]) == vit.attention["layers"][1]["rows"]
    assert state["images"][panel["photo"]].startswith("data:image/jpeg")


def test_attention_that_does_not_fit_the_page_is_left_out_with_the_reason(models):
    weights = 3 * 17 * 17  # bytes of one layer: heads, queries, keys
    rooms = {"two layers": 2 * weights, "one layer": weights, "none": weights - 1}
    kept = {}
    for name, room in rooms.items():
        ((row,),) = (sheet.rows for sheet in compare(models[1], "coffee", "gradcam", hover_mb=room / 1e6).sheets)
        kept[name] = row.attention
    assert [layer["rows"] is None for layer in kept["two layers"]["layers"]] == [False, False]
    assert [layer["rows"] is None for layer in kept["one layer"]["layers"]] == [True, False]
    assert "too large for this page" in kept["none"]
    assert compare(models[1], "coffee", "gradcam", hover_mb=0).sheets[0].rows[0].attention is None
