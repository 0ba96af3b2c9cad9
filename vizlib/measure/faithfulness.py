"""How far to trust a heatmap: metrics of faithfulness, each beside maps that know nothing.

A new metric is a function of an `Evaluation` and a row of METRICS.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.capture.taps import scores
from vizlib.measure import complexity, confidence, curves, localisation, mosaic, stability, subsets
from vizlib.measure.baselines import words
from vizlib.measure.evaluation import Evaluation
from vizlib.measure.verdict import beats, sentence
from vizlib.methods.table import METHODS, explain
from vizlib.types import Classifier, Curve, Heatmap, Score, Target


@dataclass(frozen=True)
class Metric:
    """A row of METRICS.

    Attributes:
        function: from an `Evaluation` to (b,) scores, or to (t,) shares of pixels and (b, t) probabilities.
        curve: which of the two.
        again: it needs the method itself and not only its maps.
        masks: it needs to know where the objects lie.
    """

    name: str
    function: Callable[..., Any]
    unit: str
    higher_is_better: bool
    source: str
    curve: bool = False
    again: bool = False
    masks: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


METRICS: dict[str, Metric] = {
    row.name: row
    for row in (
        Metric("deletion", curves.deletion, "probability", False, "Petsiuk et al. 2018, arXiv 1806.07421", curve=True),
        Metric("insertion", curves.insertion, "probability", True, "Petsiuk et al. 2018, arXiv 1806.07421", curve=True),
        Metric("road", curves.road, "probability", False, "Rong et al. 2022, arXiv 2202.00449", curve=True),
        Metric("average_drop", confidence.average_drop, "share of the probability", False,
               "Chattopadhay et al. 2018, arXiv 1710.11063"),
        Metric("increase", confidence.increase, "share of the photographs", True,
               "Chattopadhay et al. 2018, arXiv 1710.11063"),
        Metric("sensitivity_n", subsets.sensitivity_n, "correlation", True, "Ancona et al. 2018, arXiv 1711.06104"),
        Metric("infidelity", subsets.infidelity, "logits²", False, "Yeh et al. 2019, arXiv 1901.09392"),
        Metric("sparsity", complexity.sparsity, "Gini index", True, "Chalasani et al. 2020, arXiv 1810.06583"),
        Metric("complexity", complexity.complexity, "nats", False, "Bhatt et al. 2020, arXiv 2005.00631"),
        Metric("stability", stability.stability, "relative change", False, "Yeh et al. 2019, arXiv 1901.09392",
               again=True),
        Metric("pointing_game", localisation.pointing_game, "share of the photographs", True,
               "Zhang et al. 2016, arXiv 1608.00507", masks=True),
        Metric("energy_in_box", localisation.energy_in_box, "share of the map", True,
               "Wang et al. 2020, arXiv 1910.01279", masks=True),
        Metric("grid_pointing", mosaic.grid_pointing, "share of the map", True,
               "Böhle et al. 2021, arXiv 2104.00032", again=True),
    )
}  # fmt: skip


def faithfulness(
    clf: Classifier,
    photos: Any,
    heatmaps: Heatmap | Tensor | str,
    metric: str = "deletion",
    *,
    target: Target | None = None,
    where: Any = None,
    batch: int = 25,
    draws: int = 3,
    seed: int = 0,
    references: dict[str, Any] | None = None,
    **options: Any,
) -> Curve | Score:
    """How faithful heatmaps are to the model, by one metric, beside random maps and a Gaussian in the centre.

    Args:
        photos: those that the maps were made of, as for `explain`.
        heatmaps: from `explain`; or maps (b, r, s) as a tensor; or the name of a method, which is then run.
        metric: a row of METRICS.
        target: the class whose probability is followed; default the maps' own, and the predicted class where they
            have none.
        where: for pointing_game and energy_in_box, where the object lies: masks (b, h, w) in the model's input, or
            boxes in the photographs as xmin, ymin, xmax, ymax in pixels.
        batch: images through the model at once; on a processor at most 8, which are as fast as more.
        draws: random maps per photograph; 0 leaves out both references.
        seed: of all draws.
        references: those of an earlier result on the same photographs, for maps of the same size, instead of new ones.
        options: of the metric, see METRICS[metric].options; the `baseline` decides much, and the result names it.

    Returns:
        A Curve for deletion, insertion and road, else a Score; `print` says it in words.

    Raises:
        ValueError: unknown metric or option, or maps that do not belong to the photographs.
        TypeError: not a classifier or not heatmaps.
    """
    row = metric_named(metric, **options)
    x, heat = _maps(clf, photos, heatmaps, target)
    if row.again and (heat.method not in METHODS or "against" in heat.notes):
        raise ValueError(
            f"{metric} makes new maps and needs a method of METHODS; got maps of {heat.method or 'no method'!r}. "
            f"Pass the method's name, or maps that explain made."
        )
    size = (x.shape[-2], x.shape[-1])
    ask = Evaluation(clf, x, heat.pixels(size), _followed(clf, x, heat, target), batch,
                     partial(_again, clf, heat), _where(clf, photos, where, x), seed)  # fmt: skip
    run = partial(_judged, row, options)
    found = run(ask)
    others = {name: [each] for name, each in (references or {}).items()}
    if draws and not others:
        noise = partial(_noise, tuple(heat.values.shape[-2:]), size)
        random = [run(_standing(ask, partial(noise, torch.Generator().manual_seed(seed + i)))) for i in range(draws)]
        others = {"random": random, "centre": [run(_standing(ask, centre))]}
    won = {n: beats(found.value, torch.stack([s.value for s in o]), row.higher_is_better) for n, o in others.items()}
    means: Any = {name: _mean(each) for name, each in others.items()}
    about = f" ({found.baseline})" if found.baseline else ""
    what = f"{row.name}{about} of {heat.method or 'the maps'} on {heat.model}"
    beside = {name: float(m.value.mean()) for name, m in means.items()}
    verdict = sentence(what, found.value, row.unit, found.higher_is_better, beside, won)
    return replace(found, references=means, beats=won, verdict=verdict)


def metric_named(name: str, **options: Any) -> Metric:
    """The row of a metric, its options checked.

    Raises:
        ValueError: no such metric, or no such option.
    """
    if name not in METRICS:
        near = difflib.get_close_matches(str(name), METRICS, 3, 0.4) or list(METRICS)
        raise ValueError(f"a metric is needed; got {name!r}. Take one of: {', '.join(near)}.")
    for option in options:
        if option not in METRICS[name].options:
            every = ", ".join(METRICS[name].options) or "none"
            raise ValueError(f"{name} has no option {option!r}. It accepts: {every}.")
    return METRICS[name]


def _maps(clf: Classifier, photos: Any, heatmaps: Any, target: Any) -> tuple[Tensor, Heatmap]:
    """The prepared photographs (b, c, h, w) and one map for each."""
    if not isinstance(clf, Classifier):
        raise TypeError(f"faithfulness needs a Classifier; got {type(clf).__name__}. Use vl.load(model).")
    x = clf.prepare(photos).detach()
    if x.ndim != 4:
        raise ValueError(
            f"faithfulness needs photographs; {clf.name} takes clips, {tuple(x.shape)}. Take one frame's model."
        )
    if isinstance(heatmaps, str):
        heatmaps = explain(clf, x, heatmaps, target=target)
    if isinstance(heatmaps, Tensor):
        heatmaps = Heatmap(heatmaps.to(x.device), clf.picture(x), "", clf.name)
    if not isinstance(heatmaps, Heatmap):
        raise TypeError(
            f"a Heatmap, a tensor (b, r, s) or a method is needed; got {type(heatmaps).__name__}. Use vl.explain."
        )
    values = heatmaps.values
    if values.ndim != 3 or len(values) != len(x):
        raise ValueError(
            f"one map per photograph is needed, ({len(x)}, r, s); got {tuple(values.shape)}. Of several targets or "
            f"layers, judge one at a time."
        )
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"finite maps are needed; those of {heatmaps.method!r} hold NaN or infinity. Compute in float32."
        )
    return x, replace(heatmaps, values=values.to(x.device))


def _followed(clf: Classifier, x: Tensor, heat: Heatmap, target: Any) -> Tensor:
    """The class (b,) whose probability is followed."""
    if target is None and heat.target is not None:
        return heat.target.to(x.device)
    index, _, single = scores(clf, clf(x), target)
    if not single or callable(target):
        raise ValueError(
            f"one class per photograph is followed; got {target!r}. Pass an index, a label or a tensor (b,)."
        )
    return index[:, 0]


def _where(clf: Classifier, photos: Any, where: Any, x: Tensor) -> Tensor | None:
    if where is None:
        return None
    shape = tuple(getattr(where, "shape", ()))
    if len(shape) == 3:
        masks = torch.as_tensor(where, device=x.device) > 0
        if shape != (len(x), *x.shape[-2:]):
            raise ValueError(
                f"masks need the shape {(len(x), *x.shape[-2:])}; got {shape}. Scale them to the model's input."
            )
        return masks
    return localisation.box_masks(clf, photos, list(where)).to(x.device)


def _again(clf: Classifier, heat: Heatmap, x: Tensor, target: Tensor) -> Tensor:
    """The same method on other photographs, at pixel resolution."""
    made: Any = explain(clf, x, heat.method, target=target, layer=heat.layer or None)
    return made.pixels((x.shape[-2], x.shape[-1]))


def _judged(row: Metric, options: dict[str, Any], ask: Evaluation) -> Curve | Score:
    found = row.function(ask, **options)
    about = _baseline(row, options)
    if not row.curve:
        return Score(found, row.name, row.higher_is_better, row.unit, about)
    fraction, score = found
    higher = row.higher_is_better != (options.get("order") == "least")
    return Curve(fraction, score, curves.area(fraction, score), row.name, higher, row.unit, about)


def _baseline(row: Metric, options: dict[str, Any]) -> str:
    given = row.options | options
    if row.name == "road":
        return "filled in from the neighbours"
    squares = f", in {given['cells']} × {given['cells']} squares" if given.get("cells") else ""
    return words(given["baseline"]) + squares if "baseline" in given else ""


def _standing(ask: Evaluation, make: Callable[[Tensor], Tensor]) -> Evaluation:
    """The same question about maps that only know the photographs' size."""
    return replace(ask, maps=make(ask.x), again=lambda x, target: make(x))


def _noise(cells: tuple[int, ...], size: tuple[int, int], generator: torch.Generator, x: Tensor) -> Tensor:
    """Uniform noise in cells as coarse as the map's: taking single pixels out would be another perturbation."""
    values = torch.rand(len(x), 1, *cells, generator=generator)
    return F.interpolate(values, size, mode="bilinear")[:, 0].to(x.device)


def centre(x: Tensor) -> Tensor:
    """A Gaussian in the centre, with a deviation of a quarter of each side: where photographers put the object."""
    h, w = x.shape[-2:]
    rows, columns = (((torch.arange(n, device=x.device) + 0.5) / n - 0.5) * 4 for n in (h, w))
    return torch.exp(-0.5 * (rows[:, None] ** 2 + columns**2)).expand(len(x), h, w)


def _mean(each: list[Any]) -> Any:
    """The mean over several random maps."""
    first = each[0]
    if isinstance(first, Score):
        return replace(first, value=torch.stack([s.value for s in each]).mean(0))
    score, auc = (torch.stack([getattr(s, name) for s in each]).mean(0) for name in ("score", "auc"))
    return replace(first, score=score, auc=auc)
