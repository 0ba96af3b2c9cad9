"""Do hybrids gain at equal parameters? Over published checkpoints, with an interval from the bootstrap."""

from __future__ import annotations

import numpy as np

from vizlib.measure.checkpoints import published

# Tags and names of timm that tell of a teacher: distillation, USI (Ridnik et al. 2022), token labelling (VOLO)
_TEACHER = r"dist|\.usi_|/volo_"
NEAR = 1.25  # times as many parameters at most, or as few: "equal"


def groups(*, teachers: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Hybrids, and CNNs and Transformers, trained on ImageNet-1k alone.

    Args:
        teachers: with those that learned from another network.

    Returns:
        For each network log parameters and accuracy in points: (hybrids, 2), (others, 2).
    """
    rows = published().query("image_px == accuracy_px and not more_data")
    if not teachers:
        rows = rows[~rows["model"].str.contains(_TEACHER)]
    both = np.column_stack([np.log(rows["params"]), 100 * rows["accuracy"]])
    return both[rows["family"] == "hybrid"], both[rows["family"].isin(["CNN", "Transformer"])]


def over_the_line(hybrids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Points of each hybrid above the least-squares line of the others, accuracy over log parameters."""
    slope, start = np.polyfit(others[:, 0], others[:, 1], 1)
    return hybrids[:, 1] - start - slope * hybrids[:, 0]


def over_the_best(hybrids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Points of each hybrid above the best of the others with about its parameters (`NEAR`), where there is one."""
    near = np.abs(hybrids[:, :1] - others[:, 0]) <= np.log(NEAR)
    best = np.where(near, others[:, 1], -np.inf).max(1)
    return (hybrids[:, 1] - best)[near.any(1)]


def interval_over_the_line(hybrids: np.ndarray, others: np.ndarray, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of the median gain over the line; both groups are drawn again, with replacement.

    Source: Efron 1979, Bootstrap Methods: Another Look at the Jackknife; the percentile interval.
    """
    random = np.random.default_rng(0)
    again = [[group[random.integers(len(group), size=len(group))] for group in (hybrids, others)] for _ in range(draws)]
    low, high = np.percentile([np.median(over_the_line(*drawn)) for drawn in again], [2.5, 97.5])
    return float(low), float(high)
