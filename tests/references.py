"""Slow float64 twins of the methods, written from the papers with loops and nothing of the library.

Maps of one photograph and one target: activation and gradient are (c, r, s), images (c, h, w).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.float64)


def weighted_sum(activation: Tensor, weights: list[float]) -> Tensor:
    c, r, s = activation.shape
    total = zeros(r, s)
    for k in range(c):
        for i in range(r):
            for j in range(s):
                total[i, j] += weights[k] * float(activation[k, i, j])
    return total


def gradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    c, r, s = activation.shape
    weights = [sum(float(gradient[k, i, j]) for i in range(r) for j in range(s)) / (r * s) for k in range(c)]
    return weighted_sum(activation, weights)


def gradcam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    """Equations 5, 11 and 19 with Y = exp(S): ∂Y = Y g, ∂²Y = Y g², ∂³Y = Y g³, divided by Y at the end."""
    c, r, s = activation.shape
    score, weights = 1.7, []
    for k in range(c):
        total = sum(float(activation[k, a, b]) for a in range(r) for b in range(s))
        weight = 0.0
        for i in range(r):
            for j in range(s):
                g = float(gradient[k, i, j])
                first, second, third = score * g, score * g**2, score * g**3
                if g != 0:
                    weight += second / (2 * second + total * third) * max(first, 0.0)
        weights.append(weight / score)
    return weighted_sum(activation, weights)


def hirescam(activation: Tensor, gradient: Tensor) -> Tensor:
    c, r, s = activation.shape
    total = zeros(r, s)
    for i in range(r):
        for j in range(s):
            for k in range(c):
                total[i, j] += float(gradient[k, i, j]) * float(activation[k, i, j])
    return total


def gradcam_elementwise(activation: Tensor, gradient: Tensor) -> Tensor:
    c, r, s = activation.shape
    total = zeros(r, s)
    for i in range(r):
        for j in range(s):
            for k in range(c):
                total[i, j] += max(float(gradient[k, i, j]) * float(activation[k, i, j]), 0.0)
    return total


def layercam(activation: Tensor, gradient: Tensor) -> Tensor:
    c, r, s = activation.shape
    total = zeros(r, s)
    for i in range(r):
        for j in range(s):
            for k in range(c):
                total[i, j] += max(float(gradient[k, i, j]), 0.0) * float(activation[k, i, j])
    return total


def xgradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    c, r, s = activation.shape
    weights = []
    for k in range(c):
        total = sum(float(activation[k, i, j]) for i in range(r) for j in range(s))
        pull = sum(float(activation[k, i, j]) * float(gradient[k, i, j]) for i in range(r) for j in range(s))
        weights.append(pull / total if total else 0.0)
    return weighted_sum(activation, weights)


def eigencam(activation: Tensor, gradient: Tensor) -> Tensor:
    """The first right singular vector by power iteration on AᵀA."""
    c, r, s = activation.shape
    rows = [[float(activation[k, i, j]) for k in range(c)] for i in range(r) for j in range(s)]
    vector = [1.0 + 0.1 * k for k in range(c)]
    for _ in range(3000):
        projected = [sum(a * v for a, v in zip(row, vector, strict=True)) for row in rows]
        vector = [sum(p * row[k] for p, row in zip(projected, rows, strict=True)) for k in range(c)]
        length = sum(v * v for v in vector) ** 0.5
        vector = [v / length for v in vector]
    seen = zeros(r, s)
    for n, row in enumerate(rows):
        seen[n // s, n % s] = sum(a * v for a, v in zip(row, vector, strict=True))
    return -seen if abs(float(seen.min())) > abs(float(seen.max())) else seen


def eigengradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    return eigencam(activation * gradient, gradient)


CAMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "hirescam": hirescam,
    "gradcam_elementwise": gradcam_elementwise,
    "layercam": layercam,
    "xgradcam": xgradcam,
    "eigencam": eigencam,
    "eigengradcam": eigengradcam,
}


@torch.no_grad()
def scorecam(score: Callable[[Tensor], Tensor], image: Tensor, activation: Tensor) -> Tensor:
    """Each channel, scaled to [0, 1] and enlarged corner to corner, masks the image; their softmax weighs."""
    scores = []
    for channel in activation:
        mask = F.interpolate(channel[None, None], image.shape[-2:], mode="bilinear", align_corners=True)[0, 0]
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        scores.append(float(score((image * mask)[None])))
    powers = [2.718281828459045 ** (v - max(scores)) for v in scores]
    return weighted_sum(activation, [p / sum(powers) for p in powers])


@torch.no_grad()
def ablationcam(head: Callable[[Tensor], Tensor], activation: Tensor) -> Tensor:
    """`head` turns features (1, c, r, s) into the target's score."""
    whole = float(head(activation[None]))
    drops = []
    for k in range(len(activation)):
        without = activation.clone()
        without[k] = 0
        drops.append(whole - float(head(without[None])))
    return weighted_sum(activation, drops)


@torch.no_grad()
def gradient(score: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """∂ score / ∂ image by central differences, pixel by pixel."""
    step, found = 1e-4, torch.zeros_like(image)
    for at in range(image.numel()):
        push = torch.zeros_like(image)
        push.view(-1)[at] = step
        up, down = float(score((image + push)[None])), float(score((image - push)[None]))
        found.view(-1)[at] = (up - down) / (2 * step)
    return found


def integrated_gradients(
    score: Callable[[Tensor], Tensor], image: Tensor, baseline: Tensor, steps: int = 400
) -> Tensor:
    """Midpoint sum on the straight way."""
    total = torch.zeros_like(image)
    for k in range(steps):
        point = (baseline + (k + 0.5) / steps * (image - baseline)).requires_grad_()
        (pull,) = torch.autograd.grad(score(point[None]).sum(), point)
        total += pull / steps
    return (image - baseline) * total


@torch.no_grad()
def occlusion(score: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int, baseline: float) -> Tensor:
    """Mean drop over the windows that cover a pixel: (h, w); the windows tile the image exactly."""
    _, h, w = image.shape
    whole = float(score(image[None]))
    total, count = zeros(h, w), zeros(h, w)
    for top in range(0, h - window + 1, stride):
        for left in range(0, w - window + 1, stride):
            covered = image.clone()
            covered[:, top : top + window, left : left + window] = baseline
            total[top : top + window, left : left + window] += whole - float(score(covered[None]))
            count[top : top + window, left : left + window] += 1
    return total / count


# ---- attention rollout and relevance: one photograph, every operation a pair of (a, n, n) matrices


def attention_and_relevance(
    query: Tensor, key: Tensor, scale: float, pull: Tensor, value: Tensor
) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
    """softmax(scale · q kᵀ) and relu(∇A ⊙ A) with ∇A[i, j] = Σ_d ∂score/∂o[i, d] · v[j, d]; all (a, n, d)."""
    matrices, relevances = [], []
    for q, k, o, v in zip(query.tolist(), key.tolist(), pull.tolist(), value.tolist(), strict=True):
        matrix, relevance = [], []
        for i in range(len(q)):
            powers = [math.exp(scale * sum(x * y for x, y in zip(q[i], other, strict=True))) for other in k]
            row = [p / sum(powers) for p in powers]
            slopes = [sum(x * y for x, y in zip(o[i], other, strict=True)) for other in v]
            matrix.append(row)
            relevance.append([max(s * p, 0.0) for s, p in zip(slopes, row, strict=True)])
        matrices.append(matrix)
        relevances.append(relevance)
    return matrices, relevances


def joined(heads: list[list[list[float]]], fusion: str, discard: float) -> list[list[float]]:
    """Heads to one matrix, entry by entry; the smallest entries of each row are set to zero."""
    n = len(heads[0])
    matrix = []
    for i in range(n):
        row = []
        for j in range(n):
            entries = [h[i][j] for h in heads]
            row.append({"mean": sum(entries) / len(entries), "max": max(entries), "min": min(entries)}[fusion])
        for j in sorted(range(n), key=row.__getitem__)[: int(discard * n)]:
            row[j] = 0.0
        matrix.append(row)
    return matrix


def matrix_product(left: list[list[float]], right: list[list[float]]) -> list[list[float]]:
    n = len(left)
    return [[sum(left[i][k] * right[k][j] for k in range(n)) for j in range(n)] for i in range(n)]


def identity(n: int) -> list[list[float]]:
    return [[float(i == j) for j in range(n)] for i in range(n)]


def rollout(
    layers: list[tuple[list, list]], residual: float = 0.5, fusion: str = "mean", discard: float = 0.0
) -> Tensor:
    """Abnar, Zuidema 2020: Ã_l = Ā_l Ã_{l-1} with Ā = α I + (1 - α) joined heads, rows of sum 1; row 0 of the last."""
    total = identity(len(layers[0][0][0]))
    for matrices, _ in layers:
        joint = [[v / sum(row) for v in row] for row in joined(matrices, fusion, discard)]
        n = len(joint)
        mixed = [[residual * (i == j) + (1 - residual) * joint[i][j] for j in range(n)] for i in range(n)]
        total = matrix_product(mixed, total)
    return torch.tensor(total[0], dtype=torch.float64)


def gradient_rollout(
    layers: list[tuple[list, list]], residual: float = 0.5, fusion: str = "mean", discard: float = 0.0
) -> Tensor:
    """As `rollout`, over relu(∇A ⊙ A); each row of α I + (1 - α) Ā divided by its sum."""
    total = identity(len(layers[0][0][0]))
    for _, relevances in layers:
        joint = joined(relevances, fusion, discard)
        n = len(joint)
        mixed = [[residual * (i == j) + (1 - residual) * joint[i][j] for j in range(n)] for i in range(n)]
        total = matrix_product([[v / sum(row) for v in row] for row in mixed], total)
    return torch.tensor(total[0], dtype=torch.float64)


def chefer(layers: list[tuple[list, list]], fusion: str = "mean", discard: float = 0.0) -> Tensor:
    """Chefer, Gur, Wolf 2021 (arXiv 2103.15679), eq. 6: R = I, then R <- R + Ā R from the first layer on."""
    total = identity(len(layers[0][0][0]))
    for _, relevances in layers:
        step = matrix_product(joined(relevances, fusion, discard), total)
        total = [[a + b for a, b in zip(r, s, strict=True)] for r, s in zip(total, step, strict=True)]
    return torch.tensor(total[0], dtype=torch.float64)
