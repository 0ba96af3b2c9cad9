"""Claimed speeds, each measured here: the networks of a claim in turns, as times the speed of its slowest.

No speed is stored: it belongs to a machine, and the articles name none.
"""

from __future__ import annotations

import pandas as pd
import timm
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vizlib.measure.claims.corrected import prune_heads
from vizlib.measure.cost import ratios
from vizlib.models.architectures import registry
from vizlib.models.load import load
from vizlib.types import Classifier

LONG = 768  # pixels of a side: 2305 tokens of 16 × 16 pixels

# claim -> network -> times as fast as the first, at least and at most; from images/s where the claim gives these
CLAIMED: dict[str, dict[str, tuple[float, float] | None]] = {
    "c03": {"ViT-L/16": (1, 1), "ResNet-152": (1200 / 350, 1200 / 350), "CSWin-T": (1800 / 350, 1800 / 350)},
    "c13": {"Swin-L": (1, 1), "Swin-B": (312 / 198, 312 / 198)},
    "c14": {"ViT-B/16": (1, 1), "ConvNeXt-T": (2.3, 2.3)},
    "c18": {"ViT-L/16": (1, 1), "Swin-B": (820 / 350, 820 / 350), "EfficientNet-B7": (1200 / 350, 1200 / 350)},
    "c20": {
        "exact, written out": (1, 1),
        "Linformer": (3, 5),
        "Performer": (3, 5),
        "exact, fused": None,  # nothing is claimed of it; BigBird is a mask here, which saves no time
    },
    "c24": {"ViT-B/16": (1, 1), "ViT-B/16, a third of the heads gone": (1.5, 2)},
    "c31": {"Swin-T": (1, 1), "EfficientFormerV2-S2": (3, 3)},
}
_NAMES = {
    "ViT-L/16": "timm/vit_large_patch16_224",
    "ResNet-152": "timm/resnet152",
    "CSWin-T": "arch/cswin_t",
    "Swin-L": "timm/swin_large_patch4_window7_224",
    "Swin-B": "timm/swin_base_patch4_window7_224",
    "Swin-T": "timm/swin_tiny_patch4_window7_224",
    "ViT-B/16": "timm/vit_base_patch16_224",
    "ConvNeXt-T": "timm/convnext_tiny",
    "EfficientNet-B7": "timm/tf_efficientnet_b7",
    "EfficientFormerV2-S2": "timm/efficientformerv2_s2",
}
_LONG = {
    "exact, written out": "vit_exact",
    "exact, fused": "vit_exact",
    "Linformer": "vit_linformer",
    "Performer": "vit_performer",
}


def measured(claim: str, *, rounds: int = 3) -> pd.DataFrame:
    """The networks of a claim, one image at a time on this processor, at their own image sizes, with random weights.

    Args:
        claim: a key of `CLAIMED`.
        rounds: how often each runs, after one run that is not timed.

    Returns:
        A row per network: `network`, `px`, `claimed` and `measured` times as fast as the first, `from` and `to`
        (the slowest and fastest round) and `ms`, the median.
    """
    classifiers = [network(name) for name in CLAIMED[claim]]
    turns = ratios(classifiers, rounds=rounds, warm_up=1)
    return pd.DataFrame(
        {
            "network": turns["model"],
            "px": [clf.input_size[1] for clf in classifiers],
            "claimed": [_times(claimed) for claimed in CLAIMED[claim].values()],
            "measured": 1 / turns["ratio"],
            "from": 1 / turns["p90"],
            "to": 1 / turns["p10"],
            "ms": turns["latency_ms"],
        }
    )


def _times(claimed: tuple[float, float] | None) -> str:
    if claimed is None:
        return "–"
    low, high = claimed
    return f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"


def network(name: str) -> Classifier:
    """A network of `CLAIMED` by its name there, on the processor."""
    if name in _LONG:
        module = registry.build(_LONG[name], image_size=LONG)
        written = _WrittenOut(module) if name == "exact, written out" else module
        return load(written.eval(), input_size=LONG, name=name)
    if name == "ViT-B/16, a third of the heads gone":
        return load(_pruned().eval(), name=name)
    return load(_NAMES[name], pretrained=False, device="cpu", name=name)


def _pruned() -> nn.Module:
    """Eight of twelve heads stay in each block: nearest to the 30 % that the article removes."""
    module: nn.Module = timm.create_model("vit_base_patch16_224")
    for block in module.blocks:  # type: ignore[union-attr]
        prune_heads(block.attn, keep=range(8))
    return module


class _WrittenOut(nn.Module):
    """A network whose attention makes the (n, n) matrix."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            logits: Tensor = self.module(x)
        return logits
