"""No configuration: one member of every family gives a map with the right axes, its attention, rollout and gates."""

from __future__ import annotations

import pytest
import timm
from families.checks import CHECKS
from families.families import Member, choose, everyone, exceptions, members
from families.subject import Subject, build

# One for each mechanism: plain, distilled, shifted windows, subsampled queries, windows and grids, class attention with
# talking heads, folded patches, pooled keys, queries from elsewhere, channel attention, NHWC, gates.
QUICK = (
    "vision_transformer.VisionTransformer", "deit.VisionTransformerDistilled", "swin_transformer.SwinTransformer",
    "levit.LevitDistilled", "maxxvit.MaxxVit", "cait.Cait", "mobilevit.ByobNet", "pvt_v2.PyramidVisionTransformerV2",
    "gcvit.GlobalContextVit", "convnext.ConvNeXt", "xcit.Xcit", "sknet.ResNet", "byobnet.ByobNet", "hf/Swinv2",
    "torchvision/mobilenet_v3_small",
)  # fmt: skip
REASONS = exceptions()


@pytest.mark.parametrize("member", [m for m in everyone() if m.family in QUICK], ids=lambda m: m.family)
def test_a_family_of_every_mechanism(member: Member) -> None:
    _look(member)


@pytest.mark.families
@pytest.mark.parametrize("member", everyone(), ids=lambda m: m.family)
def test_every_family(member: Member, rows: dict[Member, dict[str, str]]) -> None:
    _look(member, rows)


@pytest.mark.families
def test_the_members_are_the_smallest_of_their_families() -> None:
    assert members() == choose(timm.list_models())


def test_exceptions_name_what_is_tested() -> None:
    families = {m.family for m in everyone()}
    for (family, cell), reason in REASONS.items():
        assert family in families
        assert cell in CHECKS
        assert reason
    assert set(QUICK) <= families


def _look(member: Member, rows: dict[Member, dict[str, str]] | None = None) -> None:
    """Every cell is looked at before the first miss is told."""
    subject = build(member.name)
    found = {cell: _cell(member, cell, subject) for cell in CHECKS}
    if rows is not None:
        rows[member] = found
    misses = {cell: words for cell, words in found.items() if words.startswith("miss")}
    assert not misses, f"{member.family} ({member.name}): {misses}"


def _cell(member: Member, cell: str, subject: Subject) -> str:
    """What was found, "–" for nothing to find, "exception: reason" or "miss: why"."""
    reason = REASONS.get((member.family, cell))
    words = _tried(cell, subject)
    if reason:
        return f"exception: {reason}" if words.startswith("miss") else f"miss: {words}, though listed as an exception"
    if words.startswith("miss") and subject.photos.shape[-2] < 200:  # in a small picture a token may see everything
        words = _tried(cell, build(member.name, scale=2))
    return words


def _tried(cell: str, subject: Subject) -> str:
    try:
        return CHECKS[cell](subject) or "–"
    except (AssertionError, RuntimeError, ValueError, TypeError, IndexError) as error:
        return f"miss: {type(error).__name__} {error}".replace("\n", " ").replace("|", "/")
