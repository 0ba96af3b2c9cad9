"""Class activation maps: a layer's activation and the gradient of the target's logit there become a picture.

Every function takes `activation` (b, c, r, s) and `gradient` (b, t, c, r, s) and returns maps (b, t, r, s).
Below, A is an activation, g the gradient of the target's logit with respect to it, S_c the sum of A_c over
its places and n their number.

The papers end with a ReLU, since they draw only what speaks for a class. It is left to the reader here: what
is returned is signed, and its relu is the paper's map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vizlib.capture.taps import Tap


def gradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM: Σ_c A_c · mean over places of g_c.

    Returns:
        (b, t, r, s), in logits: under a head that averages and is linear, it sums to the logit less its bias.

    Source: Selvaraju et al. 2017, Grad-CAM, arXiv 1610.02391, eq. 1 and 2.
    Deviation: without the final ReLU.
    """
    return _weighted(activation, gradient.mean((-2, -1)))


def gradcam_plus_plus(activation: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM++: Σ_c w_c A_c with w_c = Σ_places α relu(g) and α = g² / (2 g² + S_c g³), 0 where g is 0.

    The denominator is what tells Grad-CAM++ from a mean of positive gradients: it takes weight from channels
    that are active in many places. The paper has features after a ReLU in mind, S_c ≥ 0; where features can
    be negative it can pass through zero, and single channels then outweigh the rest (Layer-CAM has no
    denominator).

    Source: Chattopadhay et al. 2018, Grad-CAM++, arXiv 1710.11063, eq. 19, with exp(logit) as the class
        score.
    Deviation: w_c lacks the factor exp(logit), which is the same at all places and overflows; α is computed
        as 1 / (2 + S_c g), the same number. The grad-cam package adds 1e-6 to the denominator, which
        outweighs g² below |g| = 1e-3.
    """
    total = activation.sum((-2, -1))[:, None, :, None, None]
    weight = torch.where(gradient > 0, gradient / (2 + total * gradient), 0)
    return _weighted(activation, weight.sum((-2, -1)))


def hirescam(activation: Tensor, gradient: Tensor) -> Tensor:
    """HiResCAM: Σ_c g_c ⊙ A_c, the places where the model uses each channel, not their average.

    Returns:
        (b, t, r, s), in logits: each cell's share of the logit to first order.

    Source: Draelos, Carin 2020, Use HiResCAM instead of Grad-CAM, arXiv 2011.08891.
    """
    return torch.einsum("btcrs,bcrs->btrs", gradient, activation)


def gradcam_elementwise(activation: Tensor, gradient: Tensor) -> Tensor:
    """Element-wise Grad-CAM: Σ_c relu(g_c ⊙ A_c), what speaks for the class only.

    Source: the grad-cam package (GradCAMElementWise); HiResCAM with the ReLU inside the sum.
    """
    return (gradient * activation[:, None]).relu().sum(2)


def layercam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Layer-CAM: Σ_c relu(g_c) ⊙ A_c; made for early layers, where one weight per channel is too coarse.

    Source: Jiang et al. 2021, LayerCAM, IEEE TIP 30, doi 10.1109/TIP.2021.3089943.
    Deviation: without the final ReLU, which changes nothing on features that are not negative.
    """
    return hirescam(activation, gradient.relu())


def xgradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    """XGrad-CAM: Σ_c A_c · Σ_places g_c A_c / S_c; a channel that sums to zero has weight 0.

    The paper has features after a ReLU in mind. Where they can be negative (Transformers, ConvNeXt) a channel may
    nearly cancel, and its share is then divided by almost nothing: single channels outweigh the rest.

    Returns:
        (b, t, r, s), in logits: the map sums to Σ g A, the layer's whole first-order share (conservation).

    Source: Fu et al. 2020, Axiom-based Grad-CAM, arXiv 2008.02312.
    Deviation: without the final ReLU. The grad-cam package adds 1e-7 to S_c.
    """
    total = activation.sum((-2, -1))[:, None]
    share = torch.einsum("btcrs,bcrs->btc", gradient, activation)
    return _weighted(activation, torch.where(total != 0, share / total, 0))


def eigencam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Eigen-CAM: the activations projected on their first right singular vector. Class-blind.

    The sign of a singular vector is free; it is chosen so that the strongest place is positive.

    Source: Muhammad, Yeasin 2020, Eigen-CAM, arXiv 2008.00299; the sign: Chung, Ying 2025, Seg-Eigen-CAM, doi
        10.3390/app15137562.
    Deviation of the grad-cam package: it subtracts every channel's mean first, and leaves the sign to chance.
    """
    return _first_component(activation)[:, None].expand(-1, gradient.shape[1], -1, -1)


def eigengradcam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Eigen-Grad-CAM: Eigen-CAM of g ⊙ A, which makes it speak about a class.

    Source: the grad-cam package (EigenGradCAM), after Muhammad, Yeasin 2020, arXiv 2008.00299.
    Deviation of the grad-cam package: it subtracts every channel's mean first and leaves the sign to chance.
    """
    product = gradient * activation[:, None]
    return _first_component(product.flatten(0, 1)).unflatten(0, product.shape[:2])


def cam(activation: Tensor, gradient: Tensor, weight: Tensor) -> Tensor:
    """CAM: Σ_c w_c A_c with the classifier's own weights, where the head averages over places and is linear.

    Args:
        weight: (b, t, c) the classifier's row of each target (see `linear_rows`).

    Returns:
        (b, t, r, s), in logits: the mean over places is the logit without its bias.

    Raises:
        RuntimeError: the head is not average pooling and one linear layer; the gradient tells, which must
            then be `weight / n` at every place.

    Source: Zhou et al. 2016, Learning Deep Features for Discriminative Localization, arXiv 1512.04150, eq. 2.
    """
    places = activation[0, 0].numel()
    tolerance = 1e-3 * weight.abs().amax()  # far above rounding, far below the difference another head makes
    uneven = (gradient.amax((-2, -1)) - gradient.amin((-2, -1))).amax() * places > tolerance
    if uneven or (gradient.mean((-2, -1)) * places - weight).abs().amax() > tolerance:
        raise RuntimeError(
            f"plain CAM needs a head of average pooling and one linear layer right after the layer; the "
            f"gradient there {'varies over places' if uneven else 'is not a weight row'}. Use gradcam."
        )
    return _weighted(activation, weight)


def linear_rows(module: nn.Module, tap: Tap) -> Tensor:
    """The rows of the classifier's weight matrix that belong to the targets of a run: (b, t, c).

    Raises:
        RuntimeError: the model has no weight matrix from the layer's channels to the classes.
    """
    shape = (tap.logits.shape[1], tap.activation.shape[1])
    linear = [p for p in module.parameters() if p.shape[:2] == shape and p.numel() == shape[0] * shape[1]]
    if not linear:
        raise RuntimeError(
            f"plain CAM needs a linear classifier from the {shape[1]} channels of {tap.layer!r} to the "
            f"{shape[0]} classes; the model has no such weight matrix. Use gradcam."
        )
    return linear[-1].detach().flatten(1)[tap.target].to(tap.gradient)


def _weighted(activation: Tensor, weight: Tensor) -> Tensor:
    """Σ_c weight (b, t, c) · activation (b, c, r, s) -> (b, t, r, s)."""
    return torch.einsum("btc,bcrs->btrs", weight, activation)


def _first_component(features: Tensor) -> Tensor:
    """(b, c, r, s) projected on the first right singular vector of its (r·s, c) matrix: (b, r, s)."""
    places = features.flatten(2).transpose(1, 2)
    left, strength, _ = torch.linalg.svd(places, full_matrices=False)
    projection = (left[..., 0] * strength[:, :1]).unflatten(1, features.shape[-2:])
    flip = projection.amin((1, 2), keepdim=True).abs() > projection.amax((1, 2), keepdim=True).abs()
    return torch.where(flip, -projection, projection)
