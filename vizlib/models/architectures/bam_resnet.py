"""BAM-ResNet: a gate over channels and places after each stage but the last.

Paper: Park, Woo, Lee, Kweon 2018, "BAM: Bottleneck Attention Module", arXiv 1807.06514.

    channel branch    M_c(F) = W₁ ReLU(BN(W₀ AvgPool(F) + b₀)) + b₁,  reduction 16
    spatial branch    M_s(F) = Conv₁ₓ₁(Conv₃ₓ₃(Conv₃ₓ₃(Conv₁ₓ₁(F)))),  dilation 4, BN and ReLU between
    gate              M(F) = σ( M_c(F) · M_s(F) ),  F' = F + F ⊙ M(F)

The ResNet round it is torchvision's (He et al. 2015, arXiv 1512.03385; stride in the 3 × 3 convolution of
a bottleneck), whose names the authors' checkpoints share.

Deviations, from the paper: it adds the two branches and puts a batch normalisation at the end of each; as
in the authors' published code they are multiplied and the normalisation stands between the layers of a
branch. From the code: the last pooling is global, so that any input size is taken.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


class ChannelBranch(nn.Module):
    """What each channel is worth: (b, c, h, w) -> (b, c, 1, 1)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = channels // reduction
        self.gate_c = nn.Sequential(
            OrderedDict(
                gate_c_fc_0=nn.Linear(channels, hidden),
                gate_c_bn_1=nn.BatchNorm1d(hidden),
                gate_c_relu_1=nn.ReLU(),
                gate_c_fc_final=nn.Linear(hidden, channels),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.gate_c(x.mean((2, 3)))[:, :, None, None]  # (b, c) -> (b, c, 1, 1)


class SpatialBranch(nn.Module):
    """What each place is worth: (b, c, h, w) -> (b, 1, h, w)."""

    def __init__(self, channels: int, reduction: int, dilation: int = 4) -> None:
        super().__init__()
        hidden = channels // reduction
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            gate_s_conv_reduce0=nn.Conv2d(channels, hidden, 1),
            gate_s_bn_reduce0=nn.BatchNorm2d(hidden),
            gate_s_relu_reduce0=nn.ReLU(),
        )
        for i in range(2):
            layers[f"gate_s_conv_di_{i}"] = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)
            layers[f"gate_s_bn_di_{i}"] = nn.BatchNorm2d(hidden)
            layers[f"gate_s_relu_di_{i}"] = nn.ReLU()
        layers["gate_s_conv_final"] = nn.Conv2d(hidden, 1, 1)
        self.gate_s = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate_s(x)


class BAM(nn.Module):
    """Let each value through once or up to twice: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.channel_att = ChannelBranch(channels, reduction)
        self.spatial_att = SpatialBranch(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        gate = 1 + torch.sigmoid(self.channel_att(x) * self.spatial_att(x))  # (b, c, h, w)
        return x * gate


class BAMResNet(ResNet):
    """torchvision's ResNet with a BAM between its stages."""

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], **options: Any) -> None:
        super().__init__(block, layers, **options)
        self.bam1, self.bam2, self.bam3 = (BAM(planes * block.expansion) for planes in (64, 128, 256))

    def forward(self, x: Tensor) -> Tensor:
        """Image (b, 3, h, w) -> logits (b, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # (b, 64, h/4, w/4)
        x = self.bam1(self.layer1(x))
        x = self.bam2(self.layer2(x))  # (b, c, h/8, w/8)
        x = self.bam3(self.layer3(x))  # (b, 2·c, h/16, w/16)
        x = self.layer4(x)  # (b, 4·c, h/32, w/32)
        return self.fc(self.avgpool(x).flatten(1))  # (b, 4·c, 1, 1) -> (b, 4·c) -> (b, num_classes)


def resnet18_bam(**options: Any) -> BAMResNet:
    """ResNet-18 with BAM: 11.7 M parameters, 1.8 GMACs. Options: torchvision's, e.g. num_classes."""
    return BAMResNet(BasicBlock, [2, 2, 2, 2], **options)


def resnet50_bam(**options: Any) -> BAMResNet:
    """ResNet-50 with BAM: 25.9 M parameters, 4.2 GMACs. Options: torchvision's, e.g. num_classes."""
    return BAMResNet(Bottleneck, [3, 4, 6, 3], **options)
