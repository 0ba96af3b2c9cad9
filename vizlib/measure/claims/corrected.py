"""The code of articles, corrected. What was read stands in data/claimed_code.md, under the same names.

Each function says what was wrong. Some of the code needs no correction of its own because the library has it:
attention for a class is `vl.explain(clf, photo, "chefer")`, the hybrid is "arch/hybrid_resnet50", squeeze and
excitation and CBAM are in `models.architectures.cbam_resnet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from vizlib.measure import head_importance


class SmoothFocalLoss(nn.Module):
    """0.7 · cross-entropy with smoothed labels + 0.3 · focal loss; the focal loss is α (1 - p)^γ · (-ln p).

    Wrong was: torch has no `nn.FocalLoss`.

    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv 1708.02002, equation 5.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, epsilon: float = 0.1) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma
        self.smooth = nn.CrossEntropyLoss(label_smoothing=epsilon)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (b, classes), target (b,) -> a mean over the batch."""
        surprise = F.cross_entropy(logits, target, reduction="none")  # -ln p of the true class
        focal = self.alpha * (1 - torch.exp(-surprise)) ** self.gamma * surprise
        return 0.7 * self.smooth(logits, target) + 0.3 * focal.mean()


class SwinBlock(nn.Module):
    """Attention within windows of w × w tokens, then an MLP; every second block shifts its windows by w / 2.

    Wrong was: the tokens went into the attention without being cut into windows, so that it was attention over all
    of them, and nothing was ever shifted, so that windows could not have exchanged anything.

    Source: Liu et al. 2021, Swin Transformer, arXiv 2103.14030, section 3.2. Deviation: no relative position bias,
    and no mask where a shifted window wraps round the border.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int = 7, shift: int = 0) -> None:
        super().__init__()
        self.window, self.shift = window_size, shift
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """x (b, r, s, c), r and s multiples of the window -> the same."""
        back = (self.shift, self.shift)
        tokens = self._windows(self.norm1(x).roll((-self.shift, -self.shift), (1, 2)))
        mixed = self.attn(tokens, tokens, tokens, need_weights=False)[0]
        x = x + self._together(mixed, x.shape).roll(back, (1, 2))
        return x + self.mlp(self.norm2(x))

    def _windows(self, x: Tensor) -> Tensor:
        """(b, r, s, c) -> (b · windows, w², c)."""
        return (
            x.unflatten(1, (-1, self.window))
            .unflatten(3, (-1, self.window))
            .transpose(2, 3)
            .flatten(0, 2)
            .flatten(1, 2)
        )

    def _together(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        b, r, s, c = shape
        w = self.window
        return tokens.view(b, r // w, s // w, w, w, c).transpose(2, 3).reshape(b, r, s, c)


class ViTExtractor(nn.Module):
    """Patches as tokens, a class token before them, positions added.

    Wrong was: 197 positions for the 196 patches of 224 × 224 pixels, without the class token that is the 197th; and
    no `forward`.

    Source: Dosovitskiy et al. 2020, arXiv 2010.11929, equation 1.
    """

    def __init__(self, patch_size: int = 16, dim: int = 768, image_size: int = 224) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, 1 + (image_size // patch_size) ** 2, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, 1 + patches, dim)."""
        patches = self.projection(x).flatten(2).mT
        return torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.pos_embedding


def compound_scale(
    phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15
) -> tuple[float, float, float]:
    """Factors of depth and width, and the image's side in pixels, for the compound coefficient φ: α^φ, β^φ, 224 γ^φ.

    Wrong was: 1.8^φ · 1.2 and 2.0^φ · 1.1. The coefficients are the bases, chosen so that α · β² · γ² ≈ 2: each step
    of φ doubles the operations. The formula that was read multiplies them by 9.5 a step and does not begin at 1.

    Source: Tan, Le 2019, EfficientNet, arXiv 1905.11946, equation 3.
    """
    return alpha**phi, beta**phi, 224 * gamma**phi


def prune_heads(attention: Any, keep: Sequence[int]) -> None:
    """Removes heads from an attention of timm's, in place; the others work as before. What `vizlib compress` does.

    Wrong was: a mask over heads selected rows of a value projection that timm does not have, the other projections
    kept their shapes, `>` dropped the head at the threshold, and the score was a mean attention, which is one over the
    number of keys for every head. The other version multiplied an activation of the last run by a mask, which the
    next run forgets.

    Args:
        keep: numbers of the heads that stay, in order.

    Source: Michel et al. 2019, Are Sixteen Heads Really Better than One?, arXiv 1905.10650, for importance by gradient.
    """
    head_importance.prune_heads(attention, keep)


def augment(images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Colour jitter and crops of several scales for each image, then CutMix or MixUp for the batch, half the time.

    Wrong was: CutMix and MixUp mix images of a batch and their labels; inside the transform of one image there is
    neither a second image nor a label. Nor were they defined.

    Args:
        images: (b, 3, h, w), as integers in 0 … 255 or floats in [0, 1].
        labels: (b,) class indices.

    Returns:
        Images (b, 3, 224, 224), and shares of the classes (b, classes) that sum to 1.

    Source: Yun et al. 2019, CutMix, arXiv 1905.04899; Zhang et al. 2017, mixup, arXiv 1710.09412.
    """
    crop = v2.RandomResizedCrop(224, scale=(0.2, 1.0), antialias=True)
    each = v2.Compose([v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8), crop])
    mixed = v2.RandomChoice([v2.CutMix(num_classes=classes), v2.MixUp(num_classes=classes)])
    images = torch.stack([each(image) for image in images])
    if torch.rand(()) < 0.5:
        both: tuple[Tensor, Tensor] = mixed(images, labels)
        return both
    return images, F.one_hot(labels, classes).to(torch.float32)
