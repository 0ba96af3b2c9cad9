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
from numpy.typing import NDArray
from torch import Tensor

from vizlib.measure import asked, complexity, confidence, curves, localisation, mosaic, stability, subsets
from vizlib.measure.baselines import words
from vizlib.measure.evaluation import Evaluation, must_count
from vizlib.measure.verdict import better, sentence
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
        caveat: what it does not ask, where maps that know nothing do well by it; they do not stand beside it then.
    """

    name: str
    function: Callable[..., Any]
    unit: str
    higher_is_better: bool
    source: str
    curve: bool = False
    again: bool = False
    masks: bool = False
    caveat: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


SAME = 0.05  # relative distance of maps that are made twice, on another device or in another batch
SIMPLE = "It does not ask the model: a map can be simple and wrong"
STEADY = "It does not ask whether the map is right: one that is always the same scores 0"

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
        Metric("sparsity", complexity.sparsity, "Gini index", True, "Chalasani et al. 2020, arXiv 1810.06583",
               caveat=SIMPLE),
        Metric("complexity", complexity.complexity, "nats", False, "Bhatt et al. 2020, arXiv 2005.00631",
               caveat=SIMPLE),
        Metric("stability", stability.stability, "relative change", False, "Yeh et al. 2019, arXiv 1901.09392",
               again=True, caveat=STEADY),
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
    heatmaps: Heatmap | Tensor | NDArray | str,
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
        heatmaps: from `explain`; or maps (b, r, s) as a tensor or array; or the name of a method, which is then run.
            Another model's maps of the same photographs may be judged too: the sentence names both.
        metric: a row of METRICS.
        target: the class whose probability is followed; default the maps' own, and the predicted class where they
            have none.
        where: for pointing_game and energy_in_box, where the object lies: masks (b, h, w) in the model's input, or
            boxes in the photographs as xmin, ymin, xmax, ymax in pixels.
        batch: images through the model at once; on a processor at most 8, which are as fast as more.
        draws: random maps per photograph; 0 leaves out both references. What can be shown with how many, see
            `verdict.better`: with one photograph it takes 39.
        seed: of all draws.
        references: those of an earlier result on the same photographs, for maps of the same size, instead of new ones.
        options: of the metric, see METRICS[metric].options; the `baseline` decides much, and the result names it.

    Returns:
        A Curve for deletion, insertion and road, else a Score; `print` says it in words. No references stand beside
        sparsity, complexity and stability, by which maps that know nothing do well.

    Raises:
        ValueError: unknown metric or option, or maps that do not belong to the photographs.
        TypeError: not a classifier or not heatmaps.
    """
    row = metric_named(metric, **options)
    must_count(1, batch=batch)
    must_count(0, draws=draws, seed=seed)
    x = asked.photographs(clf, photos)
    heat = asked.maps_of(clf, x, heatmaps, target)
    target = asked.class_followed(clf, x, heat, target, batch)
    size, flat = (x.shape[-2], x.shape[-1]), heat.flat()
    maps = heat.pixels(size)
    maps = torch.where(flat[:, None, None], maps.amax((1, 2), keepdim=True), maps)  # without the errors of rounding
    ask = Evaluation(clf, x, maps, target, batch, partial(_again, clf, heat), asked.places(clf, photos, where, x), seed)
    if row.again and not isinstance(heatmaps, str):
        _must_be_made_again(row.name, ask, heat)
    found = _judged(row, options, ask)
    others = {name: [each] for name, each in (references or {}).items()}
    if draws and not others and not row.caveat:
        others = _references(row, options, ask, tuple(heat.values.shape[-2:]), draws)
    return _in_words(row, found, heat, clf, others, int(flat.sum()))


def metric_named(name: str, **options: Any) -> Metric:
    """The row of a metric, its options checked.

    Raises:
        ValueError: no such metric, or no such option.
    """
    if not isinstance(name, str) or name not in METRICS:
        near = difflib.get_close_matches(str(name), METRICS, 3, 0.4) or list(METRICS)
        raise ValueError(f"a metric is needed; got {name!r}. Take one of: {', '.join(near)}.")
    for option in options:
        if option not in METRICS[name].options:
            every = ", ".join(METRICS[name].options) or "none"
            raise ValueError(f"{name} has no option {option!r}. It accepts: {every}.")
    return METRICS[name]


def _again(clf: Classifier, heat: Heatmap, x: Tensor, target: Tensor) -> Tensor:
    """The same method on other photographs, at pixel resolution."""
    made: Any = explain(clf, x, heat.method, target=target, layer=heat.layer or None, **heat.options)
    return made.pixels((x.shape[-2], x.shape[-1]))


def _must_be_made_again(metric: str, ask: Evaluation, heat: Heatmap) -> None:
    """Raises ValueError where the method does not make the maps once more: changed since, of another model or score."""
    if heat.method not in METHODS or "against" in heat.notes or heat.model != ask.clf.name:
        raise ValueError(
            f"{metric} makes new maps and needs a method of METHODS, on {ask.clf.name}; got maps of "
            f"{heat.method or 'no method'!r} on {heat.model}. Pass the method's name, or maps that explain made."
        )
    apart = (ask.again(ask.x, ask.target) - ask.maps).flatten(1).norm(dim=1)
    off = float((apart / ask.maps.flatten(1).norm(dim=1).clamp_min(1e-30)).max())
    if off > SAME:
        raise ValueError(
            f"{metric} makes the maps again and needs them as {heat.method} makes them for the class that is followed; "
            f"these are {off:.0%} apart from that. Pass them as explain made them, or the method's name."
        )


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


def _references(
    row: Metric, options: dict[str, Any], ask: Evaluation, cells: tuple[int, ...], draws: int
) -> dict[str, list[Any]]:
    """The same metric on random maps, `draws` for each photograph, and on the centre Gaussian."""
    noise = partial(_noise, cells, (ask.x.shape[-2], ask.x.shape[-1]))
    generators = (torch.Generator().manual_seed(ask.seed + i) for i in range(draws))
    random = [_judged(row, options, _standing(ask, partial(noise, each))) for each in generators]
    return {"random": random, "centre": [_judged(row, options, _standing(ask, centre))]}


def _in_words(
    row: Metric, found: Any, heat: Heatmap, clf: Classifier, others: dict[str, list[Any]], flat: int
) -> Curve | Score:
    """The result with its references, whether it is better than they are, and all of that as a sentence."""
    higher, none = found.higher_is_better, flat == len(found.value)
    outcome = {n: better(found.value, torch.stack([s.value for s in o]), higher) for n, o in others.items()}
    outcome = {} if none else outcome
    means: Any = {name: _mean(each) for name, each in others.items()}
    about = f" ({found.baseline})" if found.baseline else ""
    judge = "" if heat.model == clf.name else f", judged by {clf.name}"
    what = f"{row.name}{about} of {heat.method or 'the maps'} on {heat.model}{judge}"
    beside = {name: float(m.value.mean()) for name, m in means.items()}
    verdict = sentence(what, found.value, row.unit, higher, beside, outcome, flat=flat, caveat=row.caveat)
    won = {name: outcome.get(name) is True for name in others}
    return replace(found, references=means, beats=won, verdict=verdict, method=heat.method)


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
