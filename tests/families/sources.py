"""How the member of a family is built, and the sizes it may be run at, the cheapest non-square ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import timm
import torchvision
from torch import nn

Size = tuple[int, int]
Candidate = tuple[Size, Callable[[], nn.Module]]
SIZES = ((128, 192), (140, 196), (192, 256), (224, 448))


def candidates(name: str, scale: int) -> Iterator[Candidate]:
    """Sizes (h, w), each with what builds the module for it."""
    source, _, rest = name.rpartition("/")
    yield from {"": _timm, "torchvision": _torchvision, "hf": _hf}[source](rest, scale)


def _timm(name: str, scale: int) -> Iterator[Candidate]:
    """Models of one size are built for another where their constructor takes one."""
    cfg = timm.get_pretrained_cfg(name)
    _, h, w = cfg.input_size if cfg else (3, 224, 224)
    sizes = [(r * scale, s * scale) for r, s in (*SIZES, (h, h * 2))]
    if not (cfg and cfg.fixed_input_size):
        yield from ((size, partial(timm.create_model, name)) for size in sizes)
    yield from ((size, partial(timm.create_model, name, img_size=size)) for size in sizes)
    yield (h, w), partial(timm.create_model, name)


def _torchvision(name: str, scale: int) -> Iterator[Candidate]:
    build = partial(torchvision.models.get_model, name, weights=None)
    sizes = [(r * scale, s * scale) for r, s in SIZES]
    yield from ((size, build) for size in sizes)
    yield (224, 224), build


# The smallest of every file of torchvision's classifiers.
TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5",
    "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t",
    "swin_v2_t", "vgg11", "vit_b_32",
)  # fmt: skip

# Small configurations with the structure of the published ones: stages, windows, prefix tokens, pooled keys.
_PLAIN: dict[str, Any] = {
    "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 96, "patch_size": 16,
}  # fmt: skip
_SWIN: dict[str, Any] = {"embed_dim": 24, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8]}
HF: dict[str, dict[str, Any]] = {
    "ViT": _PLAIN,
    "DeiT": _PLAIN,
    "Beit": _PLAIN | {"use_relative_position_bias": True, "layer_scale_init_value": 0.5},
    "Dinov2": _PLAIN,
    "Dinov2WithRegisters": _PLAIN,
    "Swin": _SWIN | {"window_size": 7},
    "Swinv2": _SWIN | {"window_size": 8},
    "Cvt": {"embed_dim": [16, 32, 64], "num_heads": [1, 2, 4], "depth": [1, 2, 3]},
    "PvtV2": {"hidden_sizes": [16, 32, 64, 128], "depths": [2, 2, 2, 2], "num_attention_heads": [1, 2, 4, 8]},
    "MobileViT": {"hidden_sizes": [48, 64, 80], "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 160]},
    "Levit": {"hidden_sizes": [64, 96, 128], "depths": [2, 2, 2]},
    "ConvNext": {"hidden_sizes": [16, 32, 64, 128], "depths": [2, 2, 2, 2]},
}


def _hf(name: str, scale: int) -> Iterator[Candidate]:
    import transformers

    def build(size: Any) -> nn.Module:
        config = getattr(transformers, f"{name}Config")(image_size=size, num_labels=10, **HF[name])
        return getattr(transformers, f"{name}ForImageClassification")(config)

    for r, s in SIZES:
        yield (r * scale, s * scale), partial(build, (r * scale, s * scale))
    yield (224, 224), partial(build, 224)
