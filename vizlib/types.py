"""The types that walk through the library: small, frozen, tensors on the model's device.

Shape letters, used in every docstring: `b` batch, `c` channels, `h w` pixel rows and columns, `r s` token-grid rows
and columns, `g` groups (windows), `a` heads, `q k` queries and keys, `n` tokens, `l` layers, `t` targets.
Points and sizes are (row, column); a point in the image lies in [0, 1] x [0, 1].
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vizlib import data
from vizlib.running import logits_of, unchanged

if TYPE_CHECKING:
    from vizlib.attention import Attention

AttentionKind = Literal["spatial", "channel", "pooling", "linear", "batch"]
GateKind = Literal["channel", "spatial", "axis", "path", "full", "head"]
Target = int | str | Tensor | Callable[[Tensor], Tensor] | Sequence[Any]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A model together with what its photographs need: size, normalisation, class names.

    Calling it gives logits (b, classes), in evaluation mode, without gradients; the module's own flags stay.
    """

    module: nn.Module
    name: str
    transform: Callable[[Any], Tensor]  # PIL image -> (c, h, w), normalised
    input_size: tuple[int, int, int] = (3, 224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    labels: tuple[str, ...] | None = None
    frames: int = 0  # of a clip (b, t, c, h, w); 0 for a classifier of photographs

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self._tensors() if p.is_floating_point()), torch.float32)

    def _tensors(self) -> Any:
        yield from self.module.parameters()
        yield from self.module.buffers()

    def prepare(self, photos: Any) -> Tensor:
        """Photographs to the model's input (b, c, h, w), on its device, in its dtype.

        Args:
            photos: a path, PIL image, array or uint8 tensor, or a list of them; a float tensor (b, c, h, w) is taken
                as already preprocessed. For a classifier of clips, the frames of one clip in a list, or a list of
                such lists; a float tensor is (b, t, c, h, w).

        Raises:
            ValueError: a photograph cannot be read, or a tensor has the wrong shape.
        """
        if isinstance(photos, Tensor) and photos.is_floating_point():
            return self._as_given(photos)
        if not self.frames:
            x = torch.stack([self.transform(photo) for photo in data.open_photos(photos)])
            return x.to(self.device, self.dtype)
        clips = photos if isinstance(photos, list) and photos and isinstance(photos[0], list) else [photos]
        opened = [data.open_photos(clip) for clip in clips]
        if any(len(clip) != self.frames for clip in opened):
            got = ", ".join(str(len(clip)) for clip in opened)
            raise ValueError(f"{self.name} needs clips of {self.frames} frames each, as lists; got {got} frames.")
        x = torch.stack([torch.stack([self.transform(frame) for frame in clip]) for clip in opened])
        return x.to(self.device, self.dtype)

    def _as_given(self, x: Tensor) -> Tensor:
        shape = ("b", "t", "c", "h", "w") if self.frames else ("b", "c", "h", "w")
        if x.ndim != len(shape) or x.shape[-3] != self.input_size[0]:
            raise ValueError(
                f"a preprocessed batch needs shape ({', '.join(shape)}) with {self.input_size[0]} channels; got "
                f"{tuple(x.shape)}. Add the batch axis with x[None], or pass the photograph itself."
            )
        return x.to(self.device, self.dtype)

    def picture(self, x: Tensor) -> Tensor:
        """The model's input as an image (b, 3, h, w) in [0, 1]; a clip as a strip (b, 3, t·h, w)."""
        if x.ndim == 5:
            x = x.transpose(1, 2).flatten(2, 3)
        mean, std = (torch.tensor(v, device=x.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return (x.detach().float() * std + mean).clamp(0, 1)

    def label(self, index: int) -> str:
        return self.labels[index] if self.labels and 0 <= index < len(self.labels) else f"class {index}"

    def index(self, target: int | str, classes: int | None = None) -> int:
        """The class index of a label or an index.

        Raises:
            ValueError: no such class.
        """
        count = len(self.labels) if self.labels else classes
        if isinstance(target, str):
            if target in (self.labels or ()):
                return (self.labels or ()).index(target)
            raise ValueError(_no_such_label(self, target))
        index = int(target)
        if count is not None and not 0 <= index < count:
            raise ValueError(f"a class index from 0 to {count - 1} is needed; got {index}. Or name a label.")
        return index

    @torch.no_grad()
    def __call__(self, photos: Any) -> Tensor:
        with unchanged(self.module):
            return logits_of(self.module(self.prepare(photos)))


def _no_such_label(clf: Classifier, target: str) -> str:
    if not clf.labels:
        return f"{clf.name} has no label names; got {target!r}. Pass a class index, or labels=… to vl.load."
    near = difflib.get_close_matches(target, clf.labels, 3, 0.3) or list(clf.labels[:3])
    return f"a label of {clf.name} is needed; got {target!r}. Near ones: {', '.join(map(repr, near))}."


@dataclass(frozen=True, eq=False)
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

    def cpu(self) -> Heatmap:
        move: dict[str, Any] = {k: v.cpu() for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **move, notes={k: v.cpu() for k, v in self.notes.items()})

    def __getitem__(self, photo: int | slice) -> Heatmap:
        """The maps of one photograph (kept as a batch of one) or of a slice of them."""
        part = slice(photo, photo + 1 or None) if isinstance(photo, int) else photo
        pick: dict[str, Any] = {k: v[part] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **pick, labels=self.labels[part], notes={k: v[part] for k, v in self.notes.items()})

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True)
class Cost:
    """What a classifier costs for one image, and in time and memory for a batch on one device.

    Attributes:
        flops: 2 · MACs of one image;  gmacs: the same in 10⁹ multiply-accumulates.
        latency_ms: 10th percentile, median and 90th percentile of one batch.
        peak_mb: most memory in use during a forward: weights, input and live activations, in 10⁶ bytes.
        activation_mb: activations that a training step keeps for its backward pass, in 10⁶ bytes.
        attention_flops: those of `flops` in products of two tensors that both come from the image (q kᵀ, weights · v).
        flops_by_module: by module path, children included.
    """

    params: int
    flops: int
    gmacs: float
    latency_ms: tuple[float, float, float]
    peak_mb: float
    device: str
    batch: int
    image_size: tuple[int, int]
    dtype: str = "float32"
    activation_mb: float = 0.0
    attention_flops: int = 0
    flops_by_module: dict[str, int] = field(default_factory=dict, repr=False)

    @property
    def images_per_s(self) -> float:
        return 1e3 * self.batch / self.latency_ms[1]

    @property
    def attention_share(self) -> float:
        """Share of the FLOPs in [0, 1]."""
        return self.attention_flops / self.flops if self.flops else 0.0


@dataclass(frozen=True, eq=False)
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

    @property
    def value(self) -> Tensor:
        return self.auc

    def __str__(self) -> str:
        return self.verdict


@dataclass(frozen=True, eq=False)
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

    def __str__(self) -> str:
        return self.verdict
