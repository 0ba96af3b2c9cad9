"""In which order mass is carried back through the attention operations, and what stands in the way."""

from __future__ import annotations

from vizlib.capture.anatomy import Anatomy, Site


def steps_of(anatomy: Anatomy) -> tuple[tuple[tuple[str, ...], ...], str]:
    """The spatial operations in execution order, side by side where they read the same input; and the obstacle, if any.

    Two operations stand side by side if they derive from the same earlier ones and neither from the other (the two
    stripe branches of CSWin, parallel blocks, the two of differential attention).
    """
    spatial = sorted((s for s in anatomy.sites.values() if s.kind == "spatial"), key=lambda s: s.number)
    if not spatial:
        kinds = sorted({s.kind for s in anatomy.sites.values()})
        if not kinds:
            return (), "it has no attention operation with a softmax"
        return (), f"its attention is {' and '.join(kinds)}: no matrix from places to places exists"
    obstacle = ""
    steps: list[list[Site]] = []
    for site in spatial:
        if steps and steps[-1][0].past == site.past and not _after(site, steps[-1][0]):
            if steps[-1][0].outputs.grid != site.outputs.grid:
                obstacle = _two_streams(steps[-1][0], site)
            steps[-1].append(site)
            continue
        apart = [s for s in spatial if s.number < site.number and not _after(site, s)]
        apart = [s for s in apart if s.past != site.past and site.arrangement.groups == 1 == s.arrangement.groups]
        if apart:
            obstacle = _two_streams(apart[0], site)
        steps.append([site])
    return tuple(tuple(s.name for s in step) for step in steps), obstacle


def _after(site: Site, earlier: Site) -> bool:
    return bool(site.past >> earlier.number & 1)


def _two_streams(first: Site, second: Site) -> str:
    return f"its tokens run in two separate streams ({first.name} and {second.name} do not read each other)"
