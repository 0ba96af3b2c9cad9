"""Which architectures there are, and how one is built."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from vizlib.models.architectures import (
    bam_resnet,
    cbam_resnet,
    cswin,
    dynamic_vit,
    efficient_vit,
    hybrid_model,
    lv_vit,
    mobilevit_v3,
    t2t_vit,
)
from vizlib.models.options import options_of
from vizlib.types import Named


@dataclass(frozen=True)
class Architecture:
    """A row of the registry.

    Attributes:
        builder: (**options) -> module with random weights.
        paper: short title; year, arxiv: of its first version.
        parameters: of the module as built without options.
        gmacs: 10⁹ multiplications of one image of the input size (convolutions and matrix products), as counted here;
            MobileViTv3's paper counts others, see mobilevit_v3.py.
        top1: published ImageNet-1k accuracy in percent, from the authors' repository, else from the paper;
            None where nothing was published.
        input_size: pixels of the square image; crop: its share of the resized photograph; interpolation: how
            that was resized in the authors' evaluation.
        fixed_size: takes images of the size it was built for and no other.
    """

    builder: Callable[..., nn.Module] = field(repr=False)
    paper: str
    year: int
    arxiv: str
    parameters: int
    gmacs: float
    top1: float | None = None
    input_size: int = 224
    crop: float = 0.875
    interpolation: str = "bilinear"
    fixed_size: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """What `vl.load` can build it with: num_classes, image_size, …"""
        return options_of(self.builder)

    @property
    def facts(self) -> str:
        """Paper, size and published accuracy, in words."""
        top1 = "" if self.top1 is None else f", top-1 {self.top1:.1f} %"
        size = f"{self.parameters / 1e6:.1f} M parameters, {self.gmacs:.2f} GMACs, {self.input_size} px"
        return f"{size}{top1}; {self.paper}, {self.year}, arXiv {self.arxiv}"


_CSWIN = "CSWin Transformer", 2021, "2107.00652"
_T2T = "Tokens-to-Token ViT", 2021, "2101.11986"
_LV = "All Tokens Matter: Token Labeling", 2021, "2104.10858"
_DYNAMIC = "DynamicViT", 2021, "2106.02034"
_MOBILE = "MobileViTv3", 2022, "2209.15159"
_CBAM = "CBAM: Convolutional Block Attention Module", 2018, "1807.06521"
_BAM = "BAM: Bottleneck Attention Module", 2018, "1807.06514"
_VIT = "An Image is Worth 16x16 Words", 2020, "2010.11929"
_TIMM: dict[str, Any] = {"crop": 0.9, "interpolation": "bicubic"}  # the default of repositories built on timm

ARCHITECTURES: dict[str, Architecture] = {
    "cswin_t": Architecture(cswin.cswin_t, *_CSWIN, 22_320_552, 4.324, 82.8, **_TIMM),
    "cswin_s": Architecture(cswin.cswin_s, *_CSWIN, 34_643_304, 6.801, 83.6, **_TIMM),
    "cswin_b": Architecture(cswin.cswin_b, *_CSWIN, 77_382_184, 14.955, 84.2, **_TIMM),
    "t2t_vit_7": Architecture(t2t_vit.t2t_vit_7, *_T2T, 4_310_222, 1.147, 71.7, **_TIMM),
    "t2t_vit_14": Architecture(t2t_vit.t2t_vit_14, *_T2T, 21_545_550, 4.783, 81.5, **_TIMM),
    "t2t_vit_t_14": Architecture(t2t_vit.t2t_vit_t_14, *_T2T, 21_541_070, 6.089, 81.7, **_TIMM),
    "lvvit_t": Architecture(lv_vit.lvvit_t, *_LV, 8_534_720, 2.868, 79.1, **_TIMM),
    "lvvit_s": Architecture(lv_vit.lvvit_s, *_LV, 26_151_824, 6.551, 83.3, **_TIMM),
    "dynamicvit_deit_s_07": Architecture(
        dynamic_vit.dynamicvit_deit_s_07, *_DYNAMIC, 22_774_414, 2.981, 79.32, interpolation="bicubic"
    ),
    "mobilevitv3_xxs": Architecture(mobilevit_v3.mobilevitv3_xxs, *_MOBILE, 1_249_448, 0.332, 70.98, 256),
    "mobilevitv3_xs": Architecture(mobilevit_v3.mobilevitv3_xs, *_MOBILE, 2_490_360, 0.967, 76.7, 256),
    "mobilevitv3_s": Architecture(mobilevit_v3.mobilevitv3_s, *_MOBILE, 5_763_912, 1.833, 79.3, 256),
    "resnet18_cbam": Architecture(cbam_resnet.resnet18_cbam, *_CBAM, 11_779_392, 1.815, 70.73),
    "resnet50_cbam": Architecture(cbam_resnet.resnet50_cbam, *_CBAM, 28_089_624, 4.096, 77.622),
    "resnet18_bam": Architecture(bam_resnet.resnet18_bam, *_BAM, 11_712_503, 1.819, 71.12),
    "resnet50_bam": Architecture(bam_resnet.resnet50_bam, *_BAM, 25_915_099, 4.171, 76.86),
    "hybrid_resnet50": Architecture(hybrid_model.hybrid_resnet50, *_VIT, 44_010_536, 5.079),
    "vit_exact": Architecture(efficient_vit.vit_exact, *_VIT, 5_717_416, 1.254),
    "vit_linformer": Architecture(
        efficient_vit.vit_linformer, "Linformer", 2020, "2006.04768", 6_020_008, 1.191, fixed_size=True
    ),
    "vit_performer": Architecture(efficient_vit.vit_performer, "Performer", 2020, "2009.14794", 5_717_416, 1.308),
    "vit_bigbird": Architecture(
        efficient_vit.vit_bigbird, "Big Bird", 2020, "2007.14062", 5_717_416, 1.254, fixed_size=True
    ),
}


def architectures() -> dict[str, Architecture]:
    """The architectures this library carries itself: name -> builder, paper, size, published accuracy."""
    return Named(ARCHITECTURES)


def build(name: str, **options: Any) -> nn.Module:
    """An architecture with random weights.

    Args:
        name: one of `architectures()`.
        options: of its builder, e.g. num_classes; `architectures()[name].options` names them.

    Raises:
        ValueError: no such name.
    """
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, ARCHITECTURES, 3, 0.4) or list(ARCHITECTURES)
        raise ValueError(f"an architecture's name is needed; got {name!r}. Near ones: {', '.join(near)}.")
    return ARCHITECTURES[name].builder(**options)
