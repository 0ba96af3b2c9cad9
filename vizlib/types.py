"""The types that walk through the library: small, frozen, tensors on the model's device.

Shape letters, used in every docstring: `b` batch, `c` channels, `h w` pixel rows and columns, `r s` token-grid rows
and columns, `g` groups (windows), `a` heads, `q k` queries and keys, `n` tokens, `l` layers, `t` targets.
Points and sizes are (row, column); a point in the image lies in [0, 1] x [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.classifier import Classifier as Classifier

if TYPE_CHECKING:
    from vizlib.attention import Attention

AttentionKind = Literal["spatial", "channel", "pooling", "linear", "batch"]
GateKind = Literal["channel", "spatial", "axis", "path", "full", "head"]
# Attention written without softmax() or a fused function is not recognised: none seen does not mean none there
UNSEEN = "no attention operation that was seen (by its softmax or a fused function)"
Target = int | str | Tensor | Callable[[Tensor], Tensor] | Sequence[Any]


class Named(dict[str, Any]):
    """What was found in a model, by module path; printed as a line each, by what each says of itself in `facts`."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}}  {found.facts}" for name, found in self.items()) or "none"


@dataclass(frozen=True, eq=False, repr=False)
class Heatmap:
    """What a method says about where in the image: raw, signed, at the method's own resolution.

    Attributes:
        values: (b, r, s), or (b, t, r, s) for several targets or frames. Cell (i, j) covers rows i/r … (i+1)/r and
            columns j/s … (j+1)/s of the model's input.
        image: (b, 3, h, w) in [0, 1], what the model saw.
        method: row of METHODS, or what made it.
        model: the classifier's name.
        target: (b,) or (b, t) class index the map speaks about, or None (class-blind maps speak about no class).
        score: logits of the target, same shape as `target`.
        unit: what one unit of `values` is, e.g. "share of the mass".
        layer: module path the map was made at, "" for the whole model.
        labels: names of the targets, one per photograph.
        notes: what the reader must know, name -> (b,) or (b, t), e.g. the convergence delta of integrated gradients;
            `flat`, where some map of a batch is the same everywhere or not finite: it says nothing.
        why: why this method, where it was chosen by "auto".
        options: of the method, as given: with `method`, `layer` and `target` they make the map again.
    """

    values: Tensor
    image: Tensor
    method: str
    model: str
    target: Tensor | None = None
    score: Tensor | None = None
    unit: str = ""
    layer: str = ""
    labels: tuple[str, ...] = ()
    notes: dict[str, Tensor] = field(default_factory=dict)
    why: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def pixels(self, size: tuple[int, int] | None = None, mode: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
        """The map at pixel resolution: (…, h, w), by default that of the image."""
        h, w = size or self.image.shape[-2:]
        flat = self.values.float().reshape(-1, 1, *self.values.shape[-2:])
        corners = False if mode == "bilinear" else None
        return F.interpolate(flat, (h, w), mode=mode, align_corners=corners).reshape(*self.values.shape[:-2], h, w)

    def peak(self) -> Tensor:
        """Centre of the strongest cell as (row, column) in [0, 1]: (…, 2)."""
        r, s = self.values.shape[-2:]
        best = self.values.flatten(-2).argmax(-1)
        return torch.stack([(best // s + 0.5) / r, (best % s + 0.5) / s], -1)

    def flat(self) -> Tensor:
        """Where a map is the same everywhere, up to rounding, or not finite somewhere: it says nothing. (…,) bool"""
        low, high = self.values.amin((-2, -1)), self.values.amax((-2, -1))
        differs = (high - low) > 1e-6 * torch.maximum(low.abs(), high.abs())  # not where either is not a number
        return ~(differs & low.isfinite() & high.isfinite())

    def cpu(self) -> Heatmap:
        move: dict[str, Any] = {k: v.cpu() for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **move, notes={k: v.cpu() for k, v in self.notes.items()})

    def __getitem__(self, photo: int | slice) -> Heatmap:
        """The maps of one photograph (kept as a batch of one) or of a slice of them."""
        if isinstance(photo, int) and not -len(self) <= photo < len(self):
            raise IndexError(f"this heatmap holds {len(self)} photographs; got {photo}. Count from 0.")
        part = slice(photo, photo + 1 or None) if isinstance(photo, int) else photo
        pick: dict[str, Any] = {k: v[part] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **pick, labels=self.labels[part], notes={k: v[part] for k, v in self.notes.items()})

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        b, *t, r, s = self.values.shape
        maps = " × ".join(map(str, (b, *t))) + f" map{'s' if b > 1 or t else ''}"
        spread = f"{float(self.values.min()):.3g} to {float(self.values.max()):.3g} {self.unit}".rstrip()
        about = _first(self.labels) or "no class"
        where = f" at {self.layer!r}" if self.layer else ""
        return f"Heatmap of {self.method} on {self.model}{where}: {maps} of {r} × {s}, {spread}, about {about}"


@dataclass(frozen=True, eq=False, repr=False)
class Gate:
    """A gate: values in front of a feature map that let each channel, place or path through or not.

    Attributes:
        values: broadcastable to the gated features (b, c, r, s).
        kind: "channel" (b, c, 1, 1), "spatial" (b, 1, r, s), "axis" (b, c, r, 1) or (b, c, 1, s), "path" (one value
            per parallel path), "full" (b, c, r, s) or "head" (b, a, 1, 1), in front of attention weights.
        activation: "sigmoid", "hard_sigmoid", "softmax", …
    """

    name: str
    kind: GateKind
    values: Tensor
    activation: str

    @property
    def facts(self) -> str:
        """Kind, shape and range, in words."""
        low, high = float(self.values.min()), float(self.values.max())
        return f"{self.kind} gate {tuple(self.values.shape)}, {self.activation}, {low:.3g} to {high:.3g}"

    def __repr__(self) -> str:
        return f"Gate {self.name}: {self.facts}"


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """One run of a classifier, looked at from inside.

    Attributes:
        input: (b, c, h, w) as the model saw it.
        image: (b, 3, h, w) in [0, 1].
        logits: (b, classes).
        target: (b,) class indices; the predicted classes unless asked for.
        attentions: every attention operation, by module path, in execution order.
        steps: the spatial operations in execution order; those that read the same input side by side form one step.
        obstacle: why mass cannot be carried back through this model (two streams, a mixing without a matrix), or "".
        start: which results of an operation (g, q) the logits depend on, by its name.
        gates: every gate, by module path.
        layer, activation, gradient: class-activation layer and, in the model's own layout, its output and the gradient
            of the target's logit there (None unless asked for).
        kept: models that drop tokens: (b, n) indices of the patches that are left, by module path.
        dense: per-patch class scores (b, classes, r, s) of models that have them, or None.
    """

    input: Tensor
    image: Tensor
    logits: Tensor
    target: Tensor
    model: str
    labels: tuple[str, ...] = ()
    attentions: dict[str, Attention] = field(default_factory=dict)
    steps: tuple[tuple[str, ...], ...] = ()
    obstacle: str = ""
    start: dict[str, Tensor] = field(default_factory=dict)
    gates: dict[str, Gate] = field(default_factory=dict)
    layer: str = ""
    activation: Tensor | None = None
    gradient: Tensor | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)
    dense: Tensor | None = None

    @property
    def kinds(self) -> str:
        """The kinds of its attention operations, in words."""
        return ", ".join(sorted({a.kind for a in self.attentions.values()})) or UNSEEN

    def __post_init__(self) -> None:
        for name in ("attentions", "gates"):  # so that they print as tables
            object.__setattr__(self, name, Named(getattr(self, name)))

    def __repr__(self) -> str:
        b, size = len(self.input), " × ".join(map(str, self.input.shape[1:]))
        what = f"{b} photograph{'s' if b > 1 else ''} of {size}"
        parts = [f"Trace of {self.model} on {what}, target {_first(self.labels) or self.target.tolist()}"]
        for title, found in (("attentions", self.attentions), ("gates", self.gates)):
            parts.append(f"{title}: {len(found) or 'none'}")
            parts += [f"  {line}" for line in repr(found).splitlines() if found]
        if self.layer:
            parts.append(f"class-activation layer: {self.layer}")
        if self.kept:
            parts.append(f"kept patches: {', '.join(f'{n} {t.shape[1]}' for n, t in self.kept.items())}")
        return "\n".join(parts)

    def class_map(self, target: int | None = None) -> Heatmap:
        """What each patch says of a class by itself, the scores of the dense head: (b, r, s) in logits.

        Args:
            target: class index; by default the trace's own target.

        Raises:
            ValueError: the model has no dense head, or no such class.

        Source: Jiang et al. 2021, All Tokens Matter: Token Labeling, arXiv 2104.10858.
        """
        if self.dense is None:
            raise ValueError(
                f"class_map needs a head that scores the classes at every patch; {self.model} has none. Use "
                f"vl.explain(…, 'gradcam'), or take arch/lvvit_t."
            )
        index = self.target if target is None else torch.full_like(self.target, target)
        if not 0 <= int(index.min()) <= int(index.max()) < self.dense.shape[1]:
            raise ValueError(
                f"a class index from 0 to {self.dense.shape[1] - 1} is needed; got {int(index.min())}. Name the target."
            )
        values = self.dense[torch.arange(len(index), device=index.device), index]
        score = self.logits.gather(1, index[:, None])[:, 0]
        labels = self.labels if target is None else ()
        return Heatmap(
            values, self.image, "dense head", self.model, index, score, unit="logits", labels=labels,
        )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """How the target's probability falls or rises as more and more of the photograph is deleted or inserted.

    Attributes:
        fraction: (t,) share of the pixels.
        score: (b, t) probability.
        auc: (b,) area under each curve over the measured fractions, divided by their span.
        kind: row of METRICS;  baseline: what stands where nothing of the photograph is left.
        references: the same for maps that know nothing, "random" and "centre".
        beats: by a reference's name, whether these maps are better than it.
        verdict: all of that as a sentence.
        method: what made the maps, where that is known.
    """

    fraction: Tensor
    score: Tensor
    auc: Tensor
    kind: str
    higher_is_better: bool
    unit: str = "probability"
    baseline: str = ""
    references: dict[str, Curve] = field(default_factory=dict)
    beats: dict[str, bool] = field(default_factory=dict)
    verdict: str = ""
    method: str = ""

    @property
    def value(self) -> Tensor:
        return self.auc

    def __repr__(self) -> str:
        return self.verdict or f"Curve of {self.kind}: {self.unit}, area {_numbers(self.auc)}"


@dataclass(frozen=True, eq=False, repr=False)
class Score:
    """How maps do by a metric that is one number per photograph: value (b,); the rest as in `Curve`."""

    value: Tensor
    kind: str
    higher_is_better: bool
    unit: str
    baseline: str = ""
    references: dict[str, Score] = field(default_factory=dict)
    beats: dict[str, bool] = field(default_factory=dict)
    verdict: str = ""
    method: str = ""

    def __repr__(self) -> str:
        return self.verdict or f"Score of {self.kind}: {_numbers(self.value)} {self.unit}"


def _numbers(values: Tensor) -> str:
    return _first([f"{v:.3g}" for v in values.tolist()])


def _first(words: Sequence[str]) -> str:
    """The first few different ones."""
    each = list(dict.fromkeys(words))
    return ", ".join(each[:4]) + ", …" * (len(each) > 4)
