"""CBAM-ResNet: a channel gate, then a spatial gate, in every residual block.

Paper: Woo, Park, Lee, Kweon 2018, "CBAM: Convolutional Block Attention Module", arXiv 1807.06521.

    channel gate    M_c(F) = σ( MLP(AvgPool(F)) + MLP(MaxPool(F)) ),  the same two-layer MLP, reduction 16
    spatial gate    M_s(F) = σ( Conv₇ₓ₇([MaxPool_c(F); AvgPool_c(F)]) ),  pooled over the channels
    refined         F' = M_c(F) ⊙ F;  F'' = M_s(F') ⊙ F',  before the residual is added

The ResNet round it is torchvision's (He et al. 2015, arXiv 1512.03385; stride in the 3 × 3 convolution of
a bottleneck), whose names the authors' checkpoints share.

Deviations, from the paper: as in the authors' published code the 7 × 7 convolution has no bias and a
batch normalisation follows it, with weight 0 at the start, so that all spatial gates begin at one half.
From the code: the last pooling is global, so that any input size is taken.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


class ChannelGate(nn.Module):
    """How much of each channel goes on: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        shrink, grow = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.mlp = nn.Sequential(nn.Flatten(), shrink, nn.ReLU(), grow)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))  # (b, c)
        return x * gate[:, :, None, None]  # gate (b, c, 1, 1)


class SpatialGate(nn.Module):
    """How much of each place goes on: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        conv, bn = nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1, momentum=0.01)
        self.spatial = nn.Sequential(OrderedDict(conv=conv, bn=bn))

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.stack([x.amax(1), x.mean(1)], 1)  # (b, 2, h, w)
        return x * torch.sigmoid(self.spatial(pooled))  # gate (b, 1, h, w)


class CBAM(nn.Module):
    """Channel gate, then spatial gate: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(channels, reduction)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class CBAMBasicBlock(BasicBlock):
    """ResNet's block of two 3 × 3 convolutions with a CBAM before the sum."""

    def __init__(self, inplanes: int, planes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(inplanes, planes, *args, **kwargs)
        self.cbam = CBAM(planes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.cbam(self.bn2(self.conv2(out)))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


class CBAMBottleneck(Bottleneck):
    """ResNet's block of 1 × 1, 3 × 3 and 1 × 1 convolutions with a CBAM before the sum."""

    def __init__(self, inplanes: int, planes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(inplanes, planes, *args, **kwargs)
        self.cbam = CBAM(planes * self.expansion)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.cbam(self.bn3(self.conv3(out)))
        return self.relu(out + (x if self.downsample is None else self.downsample(x)))


def _cbam_resnet(block: type[BasicBlock | Bottleneck], layers: list[int], **options: Any) -> ResNet:
    model = ResNet(block, layers, **options)
    for name, parameter in model.named_parameters():  # torchvision's ResNet starts every normalisation at 1
        if name.endswith("SpatialGate.spatial.bn.weight"):
            nn.init.zeros_(parameter)
    return model


def resnet18_cbam(**options: Any) -> ResNet:
    """ResNet-18 with CBAM: 11.8 M parameters, 1.8 GMACs. Options: torchvision's, e.g. num_classes."""
    return _cbam_resnet(CBAMBasicBlock, [2, 2, 2, 2], **options)


def resnet50_cbam(**options: Any) -> ResNet:
    """ResNet-50 with CBAM: 28.1 M parameters, 4.1 GMACs. Options: torchvision's, e.g. num_classes."""
    return _cbam_resnet(CBAMBottleneck, [3, 4, 6, 3], **options)
