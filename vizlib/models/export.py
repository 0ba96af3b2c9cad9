"""Classifiers as ONNX files, to run where there is no PyTorch."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier


class _Logits(nn.Module):
    """The model with its logits alone, whatever it returns."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.module(x))


def to_onnx(clf: Classifier, path: str | os.PathLike[str], *, batch: int | None = None) -> Path:
    """Write a classifier as an ONNX file: input "image" (b, c, h, w), preprocessed; output "logits" (b, classes).

    Args:
        path: file to write; weights are inside.
        batch: a fixed number of photographs; default: any.

    Raises:
        RuntimeError: onnx or onnxscript is missing, or the model cannot be exported.
    """
    path = Path(path)
    x = torch.zeros(batch or 2, *clf.input_size, device=clf.device, dtype=clf.dtype)  # 1 would be taken as fixed
    sizes = None if batch else ({0: torch.export.Dim("b", min=1)},)
    path.parent.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    with unchanged(clf.module), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        try:
            torch.onnx.export(
                _Logits(clf.module).eval(), (x,), path, dynamo=True, dynamic_shapes=sizes, external_data=False, **names
            )
        except ImportError:
            raise RuntimeError("ONNX needs onnx and onnxscript. pip install 'vizlib[compress]'.") from None
    return path


def onnx_logits(path: str | os.PathLike[str], x: Tensor) -> Tensor:
    """What an ONNX file says to preprocessed photographs (b, c, h, w): logits (b, classes), by ONNX Runtime on the CPU.

    Raises:
        RuntimeError: onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise RuntimeError("to run ONNX files needs onnxruntime. pip install 'vizlib[compress]'.") from None
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"image": x.cpu().numpy()})[0])
