"""Hybrid: a ResNet-50 makes the features, a Transformer relates them.

Paper: the hybrid of Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words: Transformers for Image
Recognition at Scale", section 3.1, arXiv 2010.11929, with the encoder of Vaswani et al. 2017, "Attention
Is All You Need", arXiv 1706.03762 (six layers of width 512, eight heads) on the features of He et al.
2015, arXiv 1512.03385.

    features    C = ResNet-50(image) without pooling and head      (b, 2048, r, s), 7 × 7 at 224 pixels
    tokens      X = Conv₁ₓ₁(C) + positions                         (b, 49, 512)
    encoder     X ← X + MHSA(LN(X));  X ← X + MLP(LN(X))           six times
    head        W · mean(LN(X))

Deviations: the sketch that this model comes from ("HybridModel") feeds the 2048 channels of the ResNet
straight into a Transformer of width 512, which fails, and has no position code, so that shuffling the
cells would change nothing; the projection and the positions are added here. Normalisation comes first, as
in ViT. The sketch has no head; this one reads the mean of the tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from timm import create_model
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn
from torchvision.models import ResNet, ResNet50_Weights, resnet50

from vizlib.models.hub import downloading
from vizlib.models.weight_files import load_weights


class HybridModel(nn.Module):
    """ResNet features, projected to tokens, through `nn.TransformerEncoder`.

    Args:
        resnet: makes one of torchvision's.
        dim: width of the Transformer.
        heads: attention heads.
        depth: encoder layers.
        num_classes: length of the logits.
        image_size: pixels of the square image whose grid the positions belong to; for others they are
            interpolated.
        dropout: in the encoder, in training.
    """

    def __init__(
        self,
        resnet: Callable[[], ResNet] = resnet50,
        dim: int = 512,
        heads: int = 8,
        depth: int = 6,
        *,
        num_classes: int = 1000,
        image_size: int = 224,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        *stages, _pooling, (_, classifier) = resnet().named_children()
        self.backbone = nn.Sequential(OrderedDict(stages))
        self.project = nn.Conv2d(classifier.in_features, dim, 1)
        self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // 32) ** 2, dim))
        layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Image (b, 3, h, w) -> logits (b, num_classes)."""
        x = self.project(self.backbone(x))  # (b, dim, r, s)
        positions = resample_abs_pos_embed(self.pos_embed, list(x.shape[2:]), num_prefix_tokens=0)
        x = x.flatten(2).transpose(1, 2) + positions  # (b, dim, r·s) -> (b, r·s, dim)
        x = self.transformer(x)
        return self.head(x.mean(1))


def pretrained_resnet50(weights: str | PathLike[str]) -> ResNet:
    """A ResNet-50 with trained weights: torchvision's or timm's from their hubs, or those of a file.

    Args:
        weights: "IMAGENET1K_V1", "IMAGENET1K_V2"; "timm/resnet50.TAG"; or a file, whose names are the same in both.

    Raises:
        ValueError: neither a name nor a file, or the file of another model.
        RuntimeError: they cannot be fetched.
    """
    name, instead = str(weights), "pass backbone_weights=FILE, or leave it out for random weights"
    if name in ResNet50_Weights.__members__:
        published = ResNet50_Weights[name]
        with downloading(f"the backbone, ResNet-50 {name},", published.url, instead):
            return resnet50(weights=published)
    resnet = resnet50()
    if name.partition(".")[0] == "timm/resnet50":  # of the same shape and names
        with downloading(f"the backbone, {name},", instead=instead):
            trained = create_model(name.removeprefix("timm/"), pretrained=True)
        resnet.load_state_dict(trained.state_dict())
    elif Path(name).expanduser().is_file():
        load_weights(resnet, Path(name).expanduser())
    else:
        known = ", ".join(ResNet50_Weights.__members__)
        raise ValueError(
            f"backbone_weights needs trained weights of a ResNet-50; {name!r} is neither a name nor a file. "
            f"Pass one of {known}, timm/resnet50.TAG, or a file."
        )
    return resnet


def hybrid_resnet50(*, backbone_weights: str | PathLike[str] | None = None, **options: Any) -> HybridModel:
    """ResNet-50 with a Transformer encoder on top: 44.0 M parameters, 5.1 GMACs.

    Args:
        backbone_weights: of `pretrained_resnet50`; None: random ones. What stands on top is random either way.
        options: of `HybridModel`.
    """
    if backbone_weights is not None:
        options["resnet"] = partial(pretrained_resnet50, backbone_weights)
    return HybridModel(**options)
