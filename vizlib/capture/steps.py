"""In which order mass is carried back through the attention operations, and what stands in the way."""

from __future__ import annotations

from vizlib.capture.anatomy import Anatomy, Site
from vizlib.types import UNSEEN


def steps_of(anatomy: Anatomy) -> tuple[tuple[tuple[str, ...], ...], str]:
    """The operations that carry mass in their order, side by side where they read the same input; the obstacle, if any.

    Two operations stand side by side if they derive from the same earlier ones and neither from the other (the two
    stripe branches of CSWin, parallel blocks, the two of differential attention). Linear attention carries mass by the
    matrix that it implies.
    """
    signed = [s for s in anatomy.sites.values() if s.signed]
    if signed:
        return (), (
            f"{signed[0].name} is linear attention that implies weights below zero: they are no shares of any mass"
        )
    sites = sorted(anatomy.sites.values(), key=lambda s: s.number)
    spatial = [s for s in sites if s.kind == "spatial" or s.implied]
    if not spatial:
        kinds = sorted({s.kind for s in anatomy.sites.values()})
        if not kinds:
            return (), f"it has {UNSEEN}"
        return (), f"its attention is of kind {' and '.join(kinds)}: no matrix from places to places exists"
    obstacle = ""
    steps: list[list[Site]] = []
    for site in spatial:
        if steps and _side_by_side(steps[-1][0], site):
            steps[-1].append(site)
            continue
        for earlier in (s for step in steps for s in step):
            if not _after(site, earlier) and not _local(site) and not _local(earlier):
                obstacle = _two_streams(earlier, site)
        steps.append([site])
    return tuple(tuple(s.name for s in step) for step in steps), obstacle


def _side_by_side(first: Site, second: Site) -> bool:
    same_input = first.past == second.past and not _after(second, first)
    return same_input and first.outputs.grid == second.outputs.grid


def _local(site: Site) -> bool:
    """An operation inside windows is no stream of its own: the inner attention of TNT stays within one outer patch."""
    return site.arrangement.groups > 1


def _after(site: Site, earlier: Site) -> bool:
    return bool(site.past >> earlier.number & 1)


def _two_streams(first: Site, second: Site) -> str:
    return f"its tokens run in two separate streams ({first.name} and {second.name} do not read each other)"
