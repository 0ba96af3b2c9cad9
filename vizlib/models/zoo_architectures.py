"""The nine small networks of the zoo, each a few lines on top of timm's own classes.

All take 64 × 64 photos and keep 8 × 8 cells up to the classifier, so that a map of what a network looks at
is a picture and not four squares.  Every builder takes the number of classes, the rate of stochastic depth in
the last block and the first value of LayerScale (None: none; networks without such a layer take no notice).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from timm.layers import HybridEmbed, LayerNorm, LayerNorm2d, NormMlpClassifierHead, calculate_drop_path_rates
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.convnext import ConvNeXtStage
from timm.models.deit import VisionTransformerDistilled
from timm.models.efficientnet import EfficientNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

IMAGE_SIZE = 64
WIDTHS = (32, 64, 160)  # channels on the grids of 32, 16 and 8 cells
VIT: dict[str, Any] = {"img_size": IMAGE_SIZE, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4}


def resnet(
    classes: int,
    drop_path: float = 0.0,
    layer_scale: float | None = None,
    *,
    gate: str | None = None,
    widths: tuple[int, ...] = WIDTHS,
    depth: int = 2,
) -> ByobNet:
    """Return stages of `depth` residual blocks of two 3 × 3 convolutions; `gate` is timm's name of a gate.

    Source: He et al. 2015, Deep Residual Learning for Image Recognition, arXiv 1512.03385.
    """
    stages = tuple(
        ByoBlockCfg("basic", d=depth, c=width, s=stride, attn_layer=gate)
        for width, stride in zip(widths, (1, 2, 2), strict=True)
    )
    config = ByoModelCfg(stages, stem_type="3x3", stem_pool="", stem_chs=widths[0])
    return ByobNet(config, num_classes=classes, drop_path_rate=drop_path)


def seresnet(classes: int, drop_path: float = 0.0, layer_scale: float | None = None) -> ByobNet:
    """Return the ResNet with a squeeze-and-excitation gate between the convolutions of every block.

    Source: Hu et al. 2018, Squeeze-and-Excitation Networks, arXiv 1709.01507.
    """
    return resnet(classes, drop_path, gate="se")


def cbam(classes: int, drop_path: float = 0.0, layer_scale: float | None = None) -> ByobNet:
    """Return the ResNet with a channel and a spatial gate between the convolutions of every block.

    Source: Woo et al. 2018, CBAM: Convolutional Block Attention Module, arXiv 1807.06521.
    """
    return resnet(classes, drop_path, gate="cbam")


def convnext(classes: int, drop_path: float = 0.0, layer_scale: float | None = None) -> nn.Sequential:
    """Return three stages of 7 × 7 depthwise convolutions with a Transformer's norms and MLPs.

    timm's `ConvNeXt` has four stages and would end at 2 × 2 cells, so its parts are put together here.

    Source: Liu et al. 2022, A ConvNet for the 2020s, arXiv 2201.03545.
    """
    depths, strides = (2, 2, 4), (1, 2, 2)
    rates = calculate_drop_path_rates(drop_path, depths, stagewise=True)
    layers = {"ls_init_value": layer_scale, "norm_layer": LayerNorm2d, "norm_layer_cl": LayerNorm}
    stages = [
        ConvNeXtStage(before, width, stride=stride, depth=depth, drop_path_rates=rate, **layers)
        for before, width, stride, depth, rate in zip(WIDTHS[:1] + WIDTHS, WIDTHS, strides, depths, rates, strict=False)
    ]
    stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0], kernel_size=2, stride=2), LayerNorm2d(WIDTHS[0]))
    head = NormMlpClassifierHead(WIDTHS[-1], classes, norm_layer=LayerNorm2d)
    return nn.Sequential(OrderedDict(stem=stem, stages=nn.Sequential(*stages), head=head))


def mbconv(classes: int, drop_path: float = 0.0, layer_scale: float | None = None) -> EfficientNet:
    """Return inverted residual blocks: widen, convolve each channel by itself, gate (SE), narrow.

    Source: Tan and Le 2019, EfficientNet, arXiv 1905.11946.
    """
    blocks = [
        ["ds_r1_k3_s1_e1_c16_se0.25"],
        ["ir_r2_k3_s2_e4_c32_se0.25"],
        ["ir_r3_k3_s2_e4_c96_se0.25"],
        ["ir_r2_k5_s1_e4_c144_se0.25"],
    ]
    return EfficientNet(
        decode_arch_def(blocks),
        num_classes=classes,
        stem_size=24,
        num_features=384,
        act_layer=nn.SiLU,
        drop_path_rate=drop_path,
    )


def vit(classes: int, drop_path: float = 0.0, layer_scale: float | None = None) -> VisionTransformer:
    """Return six blocks in which 64 patches of 8 × 8 pixels and a class token all look at all.

    Source: Dosovitskiy et al. 2021, An Image is Worth 16x16 Words, arXiv 2010.11929.
    """
    return VisionTransformer(num_classes=classes, drop_path_rate=drop_path, init_values=layer_scale, **VIT)


def deit(classes: int, drop_path: float = 0.0, layer_scale: float | None = None) -> VisionTransformerDistilled:
    """Return the ViT with one more token and classifier, which learn what a CNN says.

    Source: Touvron et al. 2021, Training data-efficient image transformers, arXiv 2012.12877.
    """
    return VisionTransformerDistilled(num_classes=classes, drop_path_rate=drop_path, init_values=layer_scale, **VIT)


def swin(classes: int, drop_path: float = 0.0, layer_scale: float | None = None) -> SwinTransformer:
    """Return three stages of attention in windows of 4 × 4 tokens, shifted in every second block.

    Source: Liu et al. 2021, Swin Transformer, arXiv 2103.14030.
    """
    return SwinTransformer(
        img_size=IMAGE_SIZE,
        patch_size=2,
        num_classes=classes,
        embed_dim=40,
        depths=(2, 2, 4),
        num_heads=(2, 4, 8),
        window_size=4,
        drop_path_rate=drop_path,
    )


def hybrid(classes: int, drop_path: float = 0.0, layer_scale: float | None = None) -> VisionTransformer:
    """Return three residual blocks down to 8 × 8 cells, then six Transformer blocks among these.

    Source: the order of Dai et al. 2021, CoAtNet, arXiv 2106.04803: near by convolution, far by attention.
    Deviation: plain residual blocks for MBConv, learned positions for relative ones.
    """
    convolutions = resnet(0, widths=(32, 64, 128), depth=1)
    convolutions.reset_classifier(0, global_pool="")
    return VisionTransformer(
        img_size=IMAGE_SIZE,
        patch_size=1,
        embed_dim=128,
        depth=6,
        num_heads=4,
        mlp_ratio=2.0,
        class_token=False,
        global_pool="avg",
        num_classes=classes,
        drop_path_rate=drop_path,
        init_values=layer_scale,
        embed_layer=partial(HybridEmbed, backbone=convolutions),
    )


@dataclass(frozen=True)
class Member:
    """One network of the zoo: its family, what it is in a line, and how it is built."""

    family: str
    architecture: str
    build: Callable[..., nn.Module]


MEMBERS = {
    "resnet": Member("CNN", "ResNet, 3 stages of 2 basic blocks", resnet),
    "seresnet": Member("CNN", "ResNet with SE channel gates", seresnet),
    "cbam": Member("CNN", "ResNet with CBAM channel and spatial gates", cbam),
    "convnext": Member("CNN", "ConvNeXt, 3 stages of 2, 2 and 4 blocks", convnext),
    "mbconv": Member("CNN", "EfficientNet's MBConv blocks with SE", mbconv),
    "vit": Member("Transformer", "ViT, patch 8, width 128, 6 blocks, class token", vit),
    "deit": Member("Transformer", "ViT, patch 8, width 128, 6 blocks, class and distillation token", deit),
    "swin": Member("Transformer", "Swin, 3 stages of 2, 2 and 4 blocks, windows of 4 × 4", swin),
    "hybrid": Member("hybrid", "3 residual blocks, then 6 Transformer blocks, width 128", hybrid),
}
