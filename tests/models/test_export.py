"""ONNX files say what the classifier says, for any number of photographs."""

import pytest
import tiny
import torch

from vizlib.models.export import onnx_logits, to_onnx
from vizlib.models.load import load

for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name, reason=f"needs {name}: pip install 'vizlib[compress]'")

BUILD = {
    "CNN": lambda: tiny.classifier(tiny.CNN()),
    "ViT": lambda: tiny.classifier(tiny.vit(depth=1)),
    "Swin": lambda: tiny.classifier(tiny.swin(depths=(1, 1))),
    "hybrid": lambda: load("zoo/hybrid", device="cpu"),
}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k == "hybrid")) for k in BUILD])
def test_onnx_runtime_gives_the_same_logits(kind, tmp_path):
    clf = BUILD[kind]()
    path = to_onnx(clf, tmp_path / "model.onnx")
    x = tiny.images(3, clf.input_size[1:])
    for part in (x, x[:1]):
        torch.testing.assert_close(onnx_logits(path, part), clf(part), atol=1e-4, rtol=0)
