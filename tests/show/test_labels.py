"""Labels of a scatter: none covers another, a point, or the border; what matters most is placed first."""

from __future__ import annotations

import numpy as np

from vizlib.show.labels import place


def boxes(placed: dict[int, tuple[float, float]], sizes: np.ndarray) -> np.ndarray:
    return np.array([[*corner, *(np.array(corner) + sizes[i])] for i, corner in placed.items()])


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
    assert lone[0] == (56.0, 56.0)
    crowded = np.array([[10.0, 10.0], [12.0, 12.0]])
    tight = (0.0, 0.0, 60.0, 32.0)
    assert list(place(crowded, sizes, tight, [1, 0], radius=5)) == [1]


def test_no_room_no_label() -> None:
    assert place(np.array([[5.0, 5.0]]), np.array([[50.0, 10.0]]), (0, 0, 20, 20), [0]) == {}
