"""Classifiers as ONNX files, to run where there is no PyTorch; and in INT8 by ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vizlib.models.compress import rounds_in_float
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
        ValueError: the model rounds to INT8 and multiplies in float (`int8`, `trained_int8`).
        RuntimeError: onnx or onnxscript is missing, or the model cannot be exported.
    """
    if rounds_in_float(clf):
        raise ValueError(
            f"an ONNX file needs a model in float; {clf.name} rounds to INT8 and multiplies in float, and would be no "
            f"faster and a step of rounding off. Export the model before, or take vizlib.models.export.int8_onnx."
        )
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


class OnnxRuntime(nn.Module):
    """An ONNX file run by ONNX Runtime on the CPU, on as many threads as torch: (b, c, h, w) -> logits (b, classes).

    It has no derivative and no parts to look into. `file` are the bytes of the file.
    """

    file: Tensor

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        content = bytearray(Path(path).read_bytes())
        self.register_buffer("file", torch.frombuffer(content, dtype=torch.uint8))
        options = _onnxruntime().SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = _onnxruntime().InferenceSession(bytes(content), options, providers=["CPUExecutionProvider"])

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(["logits"], {"image": x.detach().cpu().numpy()})[0])


def in_onnx(clf: Classifier) -> Classifier:
    """The same classifier, run by ONNX Runtime on the CPU; Raises as of `to_onnx`."""
    with tempfile.TemporaryDirectory() as folder:
        module = OnnxRuntime(to_onnx(clf, Path(folder) / "model.onnx"))
    return replace(clf, module=module, name=f"{clf.name}, ONNX Runtime")


def int8_onnx(clf: Classifier, seen: Tensor) -> Classifier:
    """Static INT8 of all convolutions and products with weights, with products of integers, by ONNX Runtime on the CPU.

    The steps are those of `compress.int8`: a weight's for each output channel, an activation's between the least and
    the greatest that was seen. It rounds in more places: what a product gives, too, and weights after the batch norms
    were multiplied into them.

    Args:
        seen: photographs (n, c, h, w) that fix the ranges of activations.

    Raises:
        ValueError: as `to_onnx`.
        RuntimeError: onnx, onnxscript or onnxruntime is missing.
    """
    _onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        whole, ready, small = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "small"))
        quant_pre_process(to_onnx(clf, whole), ready, skip_symbolic_shape=True)
        quantize_static(
            ready, small, _Seen(seen), per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"], extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        module = OnnxRuntime(small)
    return replace(clf, module=module, name=f"{clf.name}, INT8 ONNX Runtime")


class _Seen:
    """Photographs as ONNX Runtime asks for them: one batch a call, then None."""

    def __init__(self, seen: Tensor) -> None:
        self.parts: Iterator[Tensor] = iter(seen.split(16))

    def get_next(self) -> dict[str, Any] | None:
        part = next(self.parts, None)
        return None if part is None else {"image": part.cpu().numpy()}


def onnx_logits(path: str | os.PathLike[str], x: Tensor) -> Tensor:
    """What an ONNX file says to preprocessed photographs (b, c, h, w): logits (b, classes), by ONNX Runtime on the CPU.

    Raises:
        RuntimeError: onnxruntime is missing.
    """
    logits: Tensor = OnnxRuntime(path)(x)
    return logits


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise RuntimeError("to run ONNX files needs onnxruntime. pip install 'vizlib[compress]'.") from None
    return onnxruntime
