"""The panel by its traits: what a control changes, what is kept, what an error leaves behind."""

import base64
import datetime
import io
import threading

import numpy as np
import pytest
import tiny
from PIL import Image

from vizlib.explore import explorer as module
from vizlib.explore.explorer import Explorer
from vizlib.measure.trust import judge
from vizlib.methods.table import contrast, explain
from vizlib.show.caption import trust


@pytest.fixture
def models(takes_photos):
    return [takes_photos(tiny.CNN(), "cnn"), takes_photos(tiny.vit(), "vit")]


@pytest.fixture
def panel(models):
    return Explorer(models, ["coffee", "cat"])


def drawn(panel):
    """The raw maps that the browser was sent, by name."""
    cells = panel.maps.content["state"]["cells"]
    return {c["name"]: np.frombuffer(base64.b64decode(c["values"]), "<f4").reshape(c["shape"]) for c in cells}


def choose(panel, **values):
    for name, value in values.items():
        panel.controls[name].value = value
    panel.wait(60)


def expected(heatmap):
    return heatmap.values[0].numpy()


def test_the_first_picture_is_there_at_once(panel, models):
    maps = drawn(panel)
    assert list(maps) == ["cnn, gradcam", "vit, gradcam"]
    np.testing.assert_allclose(maps["vit, gradcam"], expected(explain(models[1], "coffee")), rtol=1e-5)


def test_every_control_changes_the_picture(panel, models):
    cnn, vit = models
    choose(panel, photo="cat", target="tea")
    for_tea = explain(cnn, "cat", target="tea")
    np.testing.assert_allclose(drawn(panel)["cnn, gradcam"], expected(for_tea), rtol=1e-5)
    choose(panel, against="dog")
    difference = expected(contrast(cnn, "cat", "gradcam", "tea", "dog"))
    np.testing.assert_allclose(drawn(panel)["cnn, gradcam, minus dog"], difference, rtol=1e-4, atol=1e-6)
    choose(panel, method="rollout", fusion="max", discard=0.5)
    fused = explain(vit, "cat", "rollout", fusion="max", discard=0.5)
    np.testing.assert_allclose(drawn(panel)["vit, rollout"], expected(fused), rtol=1e-5)
    choose(panel, vit=False, method="gradcam", against=None)
    choose(panel, layer="stem")
    at_stem = explain(cnn, "cat", target="tea", layer="stem")
    np.testing.assert_allclose(drawn(panel)["cnn, gradcam"], expected(at_stem), rtol=1e-5)


def test_the_trust_switch_puts_scores_under_the_pictures_and_keeps_those_of_random_maps(panel, models):
    before = drawn(panel)
    assert "random maps" not in panel.maps.content["html"]
    choose(panel, trust=True)
    assert all(np.array_equal(drawn(panel)[name], values) for name, values in before.items())
    for clf in models:
        assert_captions(panel, judge(clf, clf.prepare("coffee"))(explain(clf, "coffee")))
    counted = []
    models[0].module.register_forward_pre_hook(lambda _, given: counted.append(len(given[0])))
    choose(panel, method="layercam")
    assert sum(counted) < 40  # of the same size: the random maps are not judged again
    choose(panel, trust=False)
    assert "random maps" not in panel.maps.content["html"]


def assert_captions(panel, heatmap):
    for line in trust(heatmap).splitlines():
        assert f'<div class="vl-trust">{line}</div>' in panel.maps.content["html"]


def test_what_does_not_apply_is_switched_off(panel):
    assert panel.layer.disabled
    assert panel.fusion.disabled
    choose(panel, method="rollout")
    assert panel.target.disabled
    assert not panel.fusion.disabled
    choose(panel, cnn=False, method="attention")
    assert [value for _, value in panel.layer.options] == [None, "blocks.0.attn", "blocks.1.attn"]


def test_going_back_computes_nothing(panel, monkeypatch):
    before = drawn(panel)
    choose(panel, photo="cat")
    monkeypatch.setattr(module, "explain", None)
    choose(panel, photo="coffee")
    assert drawn(panel).keys() == before.keys()
    assert all(np.array_equal(drawn(panel)[name], before[name]) for name in before)


def test_a_refusal_stands_in_its_cell_and_the_panel_stays_usable(panel):
    choose(panel, method="rollout")
    assert list(drawn(panel)) == ["vit, rollout"]
    assert "rollout needs attention" in panel.maps.content["html"]
    choose(panel, method="saliency")
    assert len(drawn(panel)) == 2


def test_an_unexpected_error_is_said_in_words(panel, monkeypatch):
    def broken(*_args, **_options):
        raise KeyError("no such thing")

    monkeypatch.setattr(module, "explain", broken)
    panel.method.value = "saliency"
    with pytest.raises(KeyError):
        panel.wait(60)
    assert "That did not work" in panel.status.value
    monkeypatch.undo()
    choose(panel, method="layercam")
    assert list(drawn(panel)) == ["cnn, layercam", "vit, layercam"]


def test_cancel_keeps_the_pictures(panel, monkeypatch):
    started, go = threading.Event(), threading.Event()

    def slow(*arguments, **options):
        started.set()
        go.wait(60)
        return explain(*arguments, **options)

    monkeypatch.setattr(module, "explain", slow)
    panel.method.value = "saliency"
    assert started.wait(60)
    assert "Computing" in panel.status.value
    assert not panel.cancel.disabled
    panel.cancel.click()
    go.set()
    panel.wait(60)
    assert list(drawn(panel)) == ["cnn, gradcam", "vit, gradcam"]
    assert "Cancelled" in panel.status.value


def upload(panel, name, content):
    now = datetime.datetime.now(datetime.UTC)
    file = {"name": name, "content": memoryview(content), "size": len(content), "type": ""}
    panel.upload.value = (file | {"last_modified": now},)
    panel.wait(60)


def test_uploads_are_shown_and_bad_ones_refused(panel):
    file = io.BytesIO()
    Image.radial_gradient("L").save(file, "PNG")
    upload(panel, "cat", file.getvalue())
    assert panel.photo.value == "cat (2)"
    assert "cat (2)" in panel.maps.content["html"]
    upload(panel, "<b>bad", b"no image")
    assert panel.photo.value == "cat (2)"
    assert "&lt;b&gt;bad: " in panel.status.value
