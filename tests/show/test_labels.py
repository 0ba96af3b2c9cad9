"""Labels of a scatter: none covers another, a point, a line or the border; what matters most is placed first."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from vizlib.show.labels import Place, _leader, place, short, unique


def boxes(placed: dict[int, Place], sizes: np.ndarray) -> np.ndarray:
    return np.array([[p.x, p.y, *(np.array([p.x, p.y]) + sizes[i])] for i, p in placed.items()])


def overlapping(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all())


def test_nothing_covers_anything() -> None:
    random = np.random.default_rng(0)
    points, sizes = random.random((80, 2)) * (600, 400), random.uniform((20, 8), (90, 10), (80, 2))
    bounds, radius = (0.0, 0.0, 600.0, 400.0), 4.0
    placed = place(points, sizes, bounds, range(80), radius=radius)
    found = boxes(placed, sizes)
    marks = np.column_stack([points - radius, points + radius])
    assert 20 < len(placed) < 80  # many fit, not all
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= (600, 400)).all()
    for i, box in enumerate(found):
        assert not any(overlapping(box, other) for other in found[i + 1 :])
        assert not any(overlapping(box, mark) for mark in marks)


def test_a_label_stands_above_to_the_right_of_a_lone_point_and_first_come_first_served() -> None:
    sizes = np.full((2, 2), (40.0, 10.0))
    lone = place(np.array([[50.0, 50.0], [300.0, 300.0]]), sizes, (0, 0, 400, 400), [0], radius=5)
    assert list(lone) == [0]
    assert lone[0] == (56.0, 56.0, False)
    crowded = np.array([[10.0, 10.0], [12.0, 12.0]])
    tight = (0.0, 0.0, 60.0, 32.0)
    assert list(place(crowded, sizes, tight, [1, 0], radius=5)) == [1]


def test_no_room_no_label() -> None:
    assert place(np.array([[5.0, 5.0]]), np.array([[50.0, 10.0]]), (0, 0, 20, 20), [0]) == {}


def test_a_line_strikes_through_no_label() -> None:
    sizes, bounds = np.array([[40.0, 10.0]]), (0, 0, 400, 400)
    across = np.array([[50.0, 62.0, 300.0, 62.0]])  # through where the label would stand
    placed = place(np.array([[50.0, 50.0]]), sizes, bounds, [0], lines=across)
    assert not overlapping(boxes(placed, sizes)[0], across[0])


def test_an_important_label_without_room_stands_away_with_a_leader_that_crosses_nothing() -> None:
    own, others = np.array([100.0, 100.0]), [(100 + x, 100 + y) for x in (-14, 0, 14) for y in (-14, 14)]
    points = np.array([own, *others, (86, 100), (114, 100)])
    sizes, bounds = np.full((len(points), 2), (40.0, 10.0)), (0.0, 0.0, 300.0, 300.0)
    assert place(points, sizes, bounds, [0]) == {}
    free = np.delete(points, 4, 0)  # a gap straight up
    placed = place(free, sizes[1:], bounds, [0], important=1)[0]
    assert placed.leader
    assert placed.y > 100 + 5
    assert place(points, sizes, bounds, [0], important=1) == {}  # shut in


def test_a_leader_has_no_gaps_through_which_another_could_cross() -> None:
    pieces = _leader(np.array([100.0, 100.0]), np.array([140.0, 150.0, 180.0, 160.0]), 5.0)
    for one, following in pairwise(pieces):
        assert overlapping(one, following)
    assert overlapping(pieces[-1], np.array([139.0, 149.0, 180.0, 160.0]))


def test_names_are_as_short_as_they_can_be_and_still_tell_apart() -> None:
    models = [
        "timm/vit_base.augreg_in1k",
        "timm/vit_base.orig_in21k",
        "timm/swin.ms_in1k",
        "zoo/vit",
        "arch/vit",
        "mine",
    ]
    assert unique(models) == ["vit_base.augreg_in1k", "vit_base.orig_in21k", "swin", "zoo/vit", "arch/vit", "mine"]
    assert [short(name) for name in ("timm/vit_tiny.augreg_in1k", "zoo/vit", "mine")] == ["vit_tiny", "vit", "mine"]
