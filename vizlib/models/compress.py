"""A classifier made smaller: half precision, INT8 after training or with some, and weights near zero left out.

Every function returns a new classifier; the given one stays as it is.

INT8 comes twice. `int8_kernels` multiplies integers, by torchao, in linear layers; `export.int8_onnx` does so in
convolutions too, by ONNX Runtime. Products of integers have no derivative, so that neither Grad-CAM nor the capture,
which follows derivatives to find out where things lie, works on them. `int8` stores integers too and rounds what goes
into every layer, but multiplies in float, in any layer, with a straight-through derivative; it is what maps are made
on, and its time says nothing about INT8. It rounds in the same places to as many bits; since torchao's steps for
tokens and weights are max / 127.5 and these max / 127, the errors are alike in size and not equal. All leave products
of two activations (q kᵀ, weights · v) in float.

Training with the rounding in place (`trained_int8`) is written out here: torchao's `QATConfig` takes INT4 weights alone
as what to end in and rounds no convolution, and its way over an exported program (PT2E) returns a graph that has lost
the modules whose attention and layers are looked at.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier

LEVELS = 127  # of a weight's magnitude in one byte with a sign
STEPS = 255  # of an activation between the least and the greatest that was seen


def half(clf: Classifier, dtype: torch.dtype = torch.bfloat16) -> Classifier:
    """Weights and activations in two bytes: float16 (11 bits of precision, up to 65504) or bfloat16 (8 bits)."""
    if dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(f"half precision is torch.float16 or torch.bfloat16; got {dtype}. Take one.")
    short = {torch.float16: "float16", torch.bfloat16: "bfloat16"}[dtype]
    return replace(clf, module=copy.deepcopy(clf.module).to(dtype), name=f"{clf.name}, {short}")


def int8_kernels(clf: Classifier, seen: Tensor | None = None) -> Classifier:
    """INT8 of all linear layers by torchao, with products of integers: weights a scale per output channel.

    Args:
        seen: photographs (n, c, h, w) that fix one range for what goes into each layer: static quantisation. None:
            dynamic, a scale for each token, found at every run.

    Raises:
        RuntimeError: torchao is not installed.
    """
    try:
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError:
        raise RuntimeError("INT8 kernels need torchao, which is missing. pip install 'vizlib[compress]'.") from None
    module = copy.deepcopy(clf.module)
    if seen is None:
        # torchao would set options of torch for the whole process
        quantize_(module, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    else:
        for layer, range_ in _ranges(module, seen, (nn.Linear,)):
            quantize_(layer, _static(*range_))
    return replace(clf, module=module, name=f"{clf.name}, INT8 {'dynamic' if seen is None else 'static'} kernels")


def _static(low: Tensor, high: Tensor) -> Any:
    """torchao's steps between two fixed ends: those of `Round`, with integers from −128."""
    from torchao.quantization import Int8StaticActivationInt8WeightConfig, PerRow, PerTensor
    from torchao.quantization.quant_primitives import MappingType

    scale = (high - low).clamp_min(1e-8) / STEPS
    return Int8StaticActivationInt8WeightConfig(
        act_quant_scale=scale,
        act_quant_zero_point=(-128 - low / scale).round().to(torch.int8),
        granularity=[PerTensor(), PerRow()],
        act_mapping_type=MappingType.ASYMMETRIC,
        set_inductor_config=False,
    )


def int8(clf: Classifier, seen: Tensor | None = None) -> Classifier:
    """INT8 weights, and activations rounded to 8 bits in front of every layer; see the top of this file.

        weight      w ≈ s · round(w / s),   s = max |w| / 127 of each output channel
        activation  x ≈ lo + s · round((x − lo) / s),   s = (hi − lo) / 255

    Args:
        seen: photographs (n, c, h, w) that fix lo and hi of each layer, once: static quantisation of linear layers and
            convolutions. None: dynamic, where `int8_kernels` is: linear layers only, x ≈ s · round(x / s) with
            s = max |x| / 127 of each token.

    Source: Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference, arXiv 1712.05877.
    """
    module = copy.deepcopy(clf.module)
    for layer, range_ in _ranges(module, seen):
        layer.input_rounding = Round(*range_)
        layer.register_forward_pre_hook(_round_input)
        _store(layer)
    return replace(clf, module=module, name=f"{clf.name}, INT8 {'dynamic' if seen is None else 'static'}")


def trained_int8(clf: Classifier, seen: Tensor, *, epochs: int = 3, lr: float = 1e-5, batch: int = 32) -> Classifier:
    """Static INT8 after training with the rounding in place (QAT), the model's own answers as teacher; no labels.

    Args:
        seen: photographs (n, c, h, w) to fix the ranges on and to train with.
        epochs: over `seen`.
        lr: of Adam.

    Source: Jacob et al. 2018, arXiv 1712.05877; the derivative of rounding taken as 1: Bengio et al. 2013,
        Estimating or Propagating Gradients Through Stochastic Neurons, arXiv 1308.3432. Deviation: batch norm keeps its
        statistics, and the teacher's probabilities stand in for labels.
    """
    module = copy.deepcopy(clf.module).eval()  # dropout stays off, batch norm as it is
    layers = list(_ranges(module, seen))
    for layer, range_ in layers:
        layer.input_rounding = Round(*range_)
        layer.register_forward_pre_hook(_round_input)
        parametrize.register_parametrization(layer, "weight", _RoundedWeight())
    _teach(module, clf, seen, epochs, lr, batch)
    for layer, _ in layers:
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        _store(layer)
    return replace(clf, module=module.train(clf.module.training), name=f"{clf.name}, INT8 trained")


def taught(
    clf: Classifier, teacher: Classifier, seen: Tensor, *, epochs: int = 5, lr: float = 3e-4, batch: int = 32
) -> Classifier:
    """A compressed classifier trained to answer as another one, without labels, so that it makes up for what is gone.

    Args:
        teacher: whose probabilities are learned, e.g. the classifier before it was compressed.
        seen: photographs (n, c, h, w) to train with.
        epochs: over `seen`.
        lr: of Adam.

    Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, arXiv 1503.02531. Deviation:
        temperature 1, dropout stays off and batch norm keeps its statistics.
    """
    module = copy.deepcopy(clf.module).eval()
    _teach(module, teacher, seen, epochs, lr, batch)
    return replace(clf, module=module.train(clf.module.training), name=f"{clf.name}, trained on")


def _teach(module: nn.Module, teacher: Classifier, seen: Tensor, epochs: int, lr: float, batch: int) -> None:
    learned = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learned, lr)
    answers = torch.cat([teacher(part) for part in seen.split(batch)]).softmax(1)
    order = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for rows in torch.randperm(len(seen), generator=order).split(batch):
            with torch.enable_grad():
                loss = F.cross_entropy(logits_of(module(seen[rows])), answers[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    optimiser.zero_grad()


def pruned(clf: Classifier, share: float = 0.5) -> Classifier:
    """The weights of smallest magnitude set to zero, over all linear layers and convolutions together.

    Stored and computed they stay dense: only a file that is packed gets smaller, and only kernels for sparse
    matrices would be faster.

    Args:
        share: of the weights that go, in (0, 1).

    Source: Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks, arXiv 1506.02626.
        Deviation: no training afterwards.
    """
    if not 0 < share < 1:
        raise ValueError(f"pruning needs a share of the weights between 0 and 1; got {share}. Take 0.5.")
    module = copy.deepcopy(clf.module)
    weights = [(layer, "weight") for layer in _layers(module)]
    prune.global_unstructured(weights, prune.L1Unstructured, amount=share)
    for layer, name in weights:
        prune.remove(layer, name)
    return replace(clf, module=module, name=f"{clf.name}, {share:.0%} of weights pruned")


def rounds_in_float(clf: Classifier) -> bool:
    """Whether this is INT8 by `int8` or `trained_int8`, which multiply in float."""
    return any(isinstance(m, Round) for m in clf.module.modules())


def multiplies_integers(clf: Classifier) -> bool:
    """Whether this is INT8 by `int8_kernels`, whose weights are tensors of torchao's."""
    return any(type(p.data) is not Tensor for p in clf.module.parameters())


def stored(clf: Classifier) -> bytes:
    """The weights as `torch.save` writes them."""
    return saved(clf.module.state_dict())


def saved(weights: Mapping[str, Tensor]) -> bytes:
    """What `torch.save` writes."""
    file = io.BytesIO()
    torch.save(dict(weights), file)
    return file.getvalue()


class Round(nn.Module):
    """Activations in 8 bits: between two fixed ends, or by the largest magnitude of each row; derivative 1."""

    low: Tensor | None
    high: Tensor | None

    def __init__(self, low: Tensor | None = None, high: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, x: Tensor) -> Tensor:
        if self.low is None or self.high is None:
            scale = x.detach().abs().amax(-1, keepdim=True).clamp_min(1e-8) / LEVELS
            return _straight_through(x, (x / scale).round() * scale)
        scale = (self.high - self.low).clamp_min(1e-8) / STEPS
        zero = (self.low / scale).round()  # so that 0, of padding and ReLU, stays 0
        return _straight_through(x, ((x / scale).round() - zero).clamp(0, STEPS).add(zero) * scale)


class _RoundedWeight(nn.Module):
    """A float weight as its INT8 would be, derivative 1: to train with."""

    def forward(self, weight: Tensor) -> Tensor:
        scale = _channel_scale(weight)
        return _straight_through(weight, (weight / scale).round() * scale)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


class _FromInt8(nn.Module):
    """A weight stored as integers, in float when it is asked for."""

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, integers: Tensor) -> Tensor:
        return integers.to(self.scale.dtype) * self.scale


def _straight_through(x: Tensor, rounded: Tensor) -> Tensor:
    return x + (rounded - x).detach()


def _channel_scale(weight: Tensor) -> Tensor:
    """(out, …) -> (out, 1, …), the size of one step."""
    return weight.detach().abs().flatten(1).amax(1).clamp_min(1e-8).view(-1, *(1,) * (weight.ndim - 1)) / LEVELS


def _round_input(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (layer.input_rounding(inputs[0]), *inputs[1:])


def _store(layer: Any) -> None:
    """Replace the weight of a layer by its integers; whoever reads it gets floats."""
    weight = layer.weight.detach()
    scale = _channel_scale(weight)
    del layer.weight
    layer.register_buffer("weight", (weight / scale).round().to(torch.int8))
    parametrize.register_parametrization(layer, "weight", _FromInt8(scale), unsafe=True)


def _layers(module: nn.Module, kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)) -> list[Any]:
    """The layers with weights of their own, each once."""
    found = [m for m in module.modules() if isinstance(m, kinds)]
    if not found:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"compression needs {names} layers; {type(module).__name__} has none of its own.")
    return found


def _ranges(
    module: nn.Module, seen: Tensor | None, kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)
) -> Iterator[tuple[Any, tuple[Tensor, ...]]]:
    """The layers to round, each with the least and the greatest that came in, (1, …, 1) each; dynamic: with nothing."""
    if seen is None:
        yield from ((layer, ()) for layer in _layers(module, (nn.Linear,)))
        return
    layers = _layers(module, kinds)
    ends: dict[int, tuple[Tensor, Tensor]] = {}

    def look(index: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            low, high = (end.view((1,) * inputs[0].ndim) for end in torch.aminmax(inputs[0].detach()))
            before = ends.get(index, (torch.zeros_like(low), torch.zeros_like(high)))
            ends[index] = (torch.minimum(before[0], low), torch.maximum(before[1], high))

        return hook

    handles = [layer.register_forward_pre_hook(look(index)) for index, layer in enumerate(layers)]
    with torch.no_grad(), unchanged(module):
        for part in seen.split(32):
            module(part)
    for handle in handles:
        handle.remove()
    # a layer whose forward never runs (its weight is read by its parent) keeps float activations
    yield from ((layer, ends[index]) for index, layer in enumerate(layers) if index in ends)
