"""Which architectures there are, how one is built, and how published weights get into it."""

from __future__ import annotations

import argparse
import difflib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Architecture:
    """A row of the registry.

    Attributes:
        builder: (**options) -> module with random weights.
        paper: short title; year, arxiv: of its first version.
        parameters: of the module as built without options.
        gmacs: 10⁹ multiplications of one image of the input size (convolutions and matrix products).
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
    return dict(ARCHITECTURES)


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


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Put a checkpoint as its authors published it into a module.

    The names may stand in `state_dict_ema` (taken first: the averaged weights are the published ones),
    `state_dict` or `model`, and carry the prefix "module.". No code in the file is run.

    Args:
        module: with the names and shapes of the checkpoint.
        path: .safetensors, or what torch.save wrote (.pth, .pt, .bin, .tar).

    Raises:
        ValueError: the file is missing, is broken, holds more than tensors, or belongs to another model; then
            the first names and shapes that differ are listed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"a file of weights is needed; {path} is none. Name a .safetensors or .pth file.")
    state = _unwrap(_read(path), path)
    differing = _differences(module.state_dict(), state)
    if differing:
        shown = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise ValueError(
            f"{type(module).__name__} needs its own names and shapes; in {path.name} these differ: {shown}. "
            "Take the file made for this model, or build the model with its options (num_classes, …)."
        )
    module.load_state_dict(state, strict=False)  # only counters of batches can be missing here


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # training scripts store their arguments
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).partition("\n")[0] or "it is empty"
        raise ValueError(
            f"a file of tensors is needed; {path.name} is not read as one ({reason}). "
            "Fetch it again, or save its state dict alone: a file that needs code to be run is not loaded."
        ) from error


def _unwrap(found: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in what a file held."""
    if isinstance(found, Mapping):
        inner = (found[key] for key in ("state_dict_ema", "state_dict", "model") if key in found)
        found = next((value for value in inner if isinstance(value, Mapping)), found)
    keys = list(found) if isinstance(found, Mapping) else []
    if not keys or not all(isinstance(found[key], Tensor) for key in keys):
        what = ", ".join(map(str, keys[:5])) or type(found).__name__
        raise ValueError(
            f"names and tensors are needed, alone or under state_dict, state_dict_ema or model; {path.name} "
            f"holds {what}. Save the model's state_dict() and load that."
        )
    return {name.removeprefix("module."): value for name, value in found.items()}


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """What keeps a state dict from fitting; counters of batches, which old files lack, are no weights."""
    found = []
    for name, tensor in own.items():
        if name not in state:
            if not name.endswith("num_batches_tracked"):
                found.append(f"{name} {tuple(tensor.shape)} is missing")
        elif state[name].shape != tensor.shape:
            found.append(f"{name} is {tuple(state[name].shape)}, needed {tuple(tensor.shape)}")
    return found + [f"{name} {tuple(t.shape)} is not known" for name, t in state.items() if name not in own]
