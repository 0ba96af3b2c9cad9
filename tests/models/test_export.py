"""ONNX files say what the classifier says, for any number of photographs; and nearly so in INT8."""

import pytest
import tiny
import torch

from vizlib import cli
from vizlib.models.compress import int8, stored
from vizlib.models.export import in_onnx, int8_onnx, onnx_logits, to_onnx
from vizlib.models.load import load

for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name, reason=f"needs {name}: pip install 'vizlib[compress]'")


def agree(clf, path):
    x = tiny.images(3, clf.input_size[1:])
    for part in (x, x[:1]):
        torch.testing.assert_close(onnx_logits(path, part), clf(part), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "name",
    ["zoo/resnet", *(pytest.param(f"zoo/{n}", marks=pytest.mark.slow) for n in ("vit", "swin", "hybrid"))],
)
def test_onnx_runtime_gives_the_logits_of_the_zoo(name, tmp_path):
    """A CNN, a ViT, a Swin and a hybrid."""
    clf = load(name, device="cpu")
    agree(clf, to_onnx(clf, tmp_path / "model.onnx"))


def test_the_command(tmp_path, capsys):
    out = tmp_path / "new" / "resnet.onnx"
    assert cli.main(["export", "zoo/resnet", "--batch", "1", "--out", str(out), "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    clf = load("zoo/resnet", device="cpu")
    x = tiny.images(1, 64)
    torch.testing.assert_close(onnx_logits(out, x), clf(x), atol=1e-4, rtol=0)
    assert cli.main(["export", "zoo/resnet", "--out", "resnet.pt"]) == 2
    assert "ends in .onnx" in capsys.readouterr().err


@pytest.mark.parametrize("build", [lambda: tiny.vit(depth=1), lambda: tiny.swin(depths=(1, 1))], ids=["ViT", "Swin"])
def test_onnx_runtime_gives_the_logits_of_small_transformers(build, tmp_path):
    clf = tiny.classifier(build())
    agree(clf, to_onnx(clf, tmp_path / "model.onnx"))


def test_int8_in_onnx_runtime():
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(16)
    whole, small = in_onnx(clf), int8_onnx(clf, x)
    torch.testing.assert_close(whole(x), clf(x), atol=1e-4, rtol=0)
    assert 0 < (small(x) - clf(x)).norm() < 0.1 * clf(x).norm()
    assert (small(x) - clf(x)).norm() < 4 * (int8(clf, x)(x) - clf(x)).norm()
    dim = int8_onnx(clf, 0.1 * x)  # ranges of dim photographs cut off what bright ones give
    assert (dim(x) - clf(x)).norm() > 5 * (small(x) - clf(x)).norm()
    assert len(stored(small)) > 0


def test_a_model_that_rounds_in_float_is_refused(tmp_path):
    clf = tiny.classifier(tiny.CNN())
    with pytest.raises(ValueError, match=r"needs a model in float; tiny, INT8 static rounds.*int8_onnx"):
        to_onnx(int8(clf, tiny.images()), tmp_path / "model.onnx")
