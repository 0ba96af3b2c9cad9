"""Claims about what classifiers cost: operations, parameters, memory, speed."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from importlib.resources import files

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vizlib.measure.claims.evidence import (
    COUNTED,
    SPEED,
    TIMM,
    Claim,
    Finding,
    at_size,
    authors,
    gmacs,
    params,
    points,
    top1,
)
from vizlib.measure.cost import growth
from vizlib.measure.costs import build, classifier_of
from vizlib.measure.flops import count
from vizlib.measure.memory import FusedAttention, live_peak
from vizlib.models.architectures import registry as architectures
from vizlib.models.load import load

EFFICIENT = {
    "linformer": "Linformer",
    "performer": "Performer",
    "fused": "exact in a fused kernel",
}
LONGER = (1024, 2048)  # pixels of a side: 4097 and 16385 tokens of 16 × 16 pixels


def dynamic_vit() -> Finding:
    saved = 1 - gmacs("arch/dynamicvit_deit_s_07") / gmacs("deit_small_patch16_224.fb_in1k")
    lost = top1("deit_small_patch16_224.fb_in1k") - authors("dynamicvit_deit_s_07")
    return Finding(
        f"keeping 70 % of the tokens three times saves {saved:.0%} of DeiT-S's operations and costs {lost:.1f} points; "
        "the paper: 31 to 37 % fewer operations, over 40 % more throughput, at most 0.5 points lost",
        f"operations counted here: vizlib.measure.cost.macs; DeiT-S: {TIMM}; DynamicViT: Rao et al. 2021, arXiv "
        "2106.02034, abstract, and the results table of the authors' repository",
        "off",
        "40 % is the throughput gained, not the computation saved, and the accuracy is not equal",
    )


def pruned_heads() -> Finding:
    whole, heads = head_share("vit_base_patch16_224")["gmacs"]
    return Finding(
        f"all heads of ViT-B/16 together (their projections and the attention) are {heads / whole:.1%} of its "
        "operations "
        "at 224 pixels, the MLPs most of the rest; and a mean attention score says nothing of a head: the rows of "
        "every "
        "head sum to 1, so that its mean over 197 keys is 1/197, for every head",
        "counted here: vizlib.measure.claims.cost.head_share; for a score by gradient Michel et al. 2019, arXiv "
        "1905.10650",
        "wrong",
        "40 % cannot be reached by removing heads, not even all of them; and the score ranks nothing",
    )


def quantised() -> Finding:
    vit, cnn = (smaller_by_int8(name) for name in ("vit_base_patch16_224", "resnet50"))
    rows = int8_of_the_zoo().itertuples()
    measured = "; ".join(
        f"{r.model} {r.smaller:.0%} smaller, {points(100 * r.gained)} ± {100 * r.half:.1f}" for r in rows
    )
    return Finding(
        f"one byte in place of four for the weights of linear layers, as the code shown does it, makes ViT-B/16 "
        f"{vit:.1%} smaller and ResNet-50 {cnn:.1%}. All layers, static, on members of the zoo: {measured}",
        "counted here: vizlib.measure.claims.cost.smaller_by_int8; measured here: data/compression.csv",
        "holds in part",
        "nearly, where all layers are quantised; not for a CNN by the code shown. The accuracies agree within the "
        "95 % intervals of these photographs, which are wider than 1 %",
    )


def flops_table() -> Finding:
    b7, swin = gmacs("tf_efficientnet_b7.aa_in1k"), "swin_base_patch4_window"
    small, large = (gmacs(f"vit_large_patch16_{n}.augreg_in21k_ft_in1k") for n in (224, 384))
    at224, at384 = gmacs(f"{swin}7_224.ms_in1k"), gmacs(f"{swin}12_384.ms_in1k")
    return Finding(
        f"EfficientNet-B7 {b7:.1f} GMACs at 600 pixels; ViT-L/16 {small:.1f} at 224 and {large:.1f} at 384; Swin-B "
        f"{at224:.1f} at 224 and {at384:.1f} at 384. Parameters {params('tf_efficientnet_b7.aa_in1k'):.1f}, "
        f"{params('vit_large_patch16_384.augreg_in21k_ft_in1k'):.1f}, {params(f'{swin}7_224.ms_in1k'):.1f} M",
        COUNTED,
        "holds in part",
        "the operations and parameters; but these are operations of one image at 600, 384 and 384 pixels, and not of "
        "training, while the "
        f"accuracies beside them are for other sizes; {SPEED}",
    )


def long_sequences() -> Finding:
    short, long = (
        {kind: 1 - attention_peak(kind, size) / attention_peak("exact", size) for kind in EFFICIENT} for size in LONGER
    )
    told = ", ".join(f"{name} {short[kind]:.0%} and {long[kind]:.0%}" for kind, name in EFFICIENT.items())
    mask = 1 - attention_peak("bigbird", LONGER[0]) / attention_peak("exact", LONGER[0])
    return Finding(
        "memory saved against attention that writes its matrix out, live activations of ViT-Ti/16 on one image of "
        f"{LONGER[0]} pixels (4097 tokens) and {LONGER[1]} (16385): {told}; BigBird's pattern as a "
        f"mask {mask:.0%} at the first",
        "counted here: vizlib.measure.claims.cost.attention_peak",
        "holds in part",
        "of memory: not yet at 4097 tokens, but at 16385 for Linformer and Performer; a fused kernel saves more and "
        f"computes exact attention; BigBird needs a kernel for sparse blocks, as a mask it saves nothing; {SPEED}",
    )


def flash_attention() -> Finding:
    products = growth(lambda side: load("arch/vit_exact", pretrained=False, device="cpu"), [512, 1024])
    times = float(products["attention_gmacs"][1] / products["attention_gmacs"][0])
    fused, written = (scaled_memory(fused) for fused in (True, False))
    return Finding(
        f"four times the tokens need {times:.1f} times the multiply-accumulates, in whatever order they are done; "
        "twice the "
        f"tokens need {fused:.1f} times the memory with the fused kernel, {written:.1f} times where the matrix is "
        "written out",
        "counted here: vizlib.measure.cost.growth, vizlib.measure.claims.cost.scaled_memory; Dao et al. 2022, arXiv "
        "2205.14135, theorem 1",
        "wrong",
        "FlashAttention is exact, its time stays O(n²); what falls to O(n) is the memory, and with it the traffic",
    )


def structured_pruning() -> Finding:
    whole, heads = head_share("vit_base_patch16_224")["params"]
    return Finding(
        f"all heads of ViT-B/16 hold {heads / whole:.1%} of its parameters; removing 30 % of them removes "
        f"{0.3 * heads / whole:.1%}, removing half {0.5 * heads / whole:.1%}. The code shown multiplies an "
        "activation by a mask and removes nothing",
        "counted here: vizlib.measure.claims.cost.head_share",
        "wrong",
        f"30 to 50 % of the parameters are out of reach for 30 % of the heads; {SPEED}",
    )


def mobile_and_large() -> Finding:
    rows = [at_size(name, 1024) for name in ("swin_tiny_patch4_window7_224", "vit_small_patch16_224")]
    swin, vit = rows
    share = {row["model"]: row["attention_gmacs"] / row["gmacs"] for row in rows}
    return Finding(
        f"MobileViT-S needs {gmacs('mobilevit_s.cvnets_in1k'):.2f} GMACs. At 1024 pixels Swin-T needs "
        f"{swin['gmacs']:.0f} "
        f"GMACs, of which attention is {share[swin['model']]:.1%}; ViT-S/16 {vit['gmacs']:.0f}, attention "
        f"{share[vit['model']]:.1%}",
        COUNTED,
        "holds in part",
        "for Swin: windows keep attention linear in the pixels; whether MobileViT stays under 50 ms is not checkable "
        "without a device: notebook 10b measures it on yours",
    )


def efficientformer() -> Finding:
    pairs = [
        ("efficientformerv2_s2.snap_dist_in1k", "swin_tiny_patch4_window7_224.ms_in1k"),
        ("efficientformerv2_l.snap_dist_in1k", "swin_small_patch4_window7_224.ms_in1k"),
    ]
    told = "; ".join(
        f"{a.partition('.')[0]} {top1(a):.2f} % and {gmacs(a):.2f} GMACs, {b.partition('_patch')[0]} {top1(b):.2f} % "
        "and "
        f"{gmacs(b):.2f} ({gmacs(b) / gmacs(a):.1f} times)"
        for a, b in pairs
    )
    return Finding(
        told,
        f"{COUNTED}; {TIMM}",
        "holds in part",
        f"for the operations at equal accuracy (with a teacher, which Swin had not); {SPEED}",
    )


@cache
def head_share(architecture: str) -> dict[str, tuple[float, float]]:
    """GMACs and parameters of a timm ViT, and of all its attention (projections included)."""
    with torch.device("meta"):
        clf = classifier_of(architecture, 224)
    flops = count(clf)
    heads = [name for name in flops.modules if name.endswith(".attn")]
    attention = sum(flops.modules[name] for name in heads)
    inside = sum(p.numel() for n, p in clf.module.named_parameters() if ".attn." in n)
    whole = sum(p.numel() for p in clf.module.parameters())
    return {"gmacs": (flops.total / 2e9, attention / 2e9), "params": (whole, inside)}


def smaller_by_int8(architecture: str) -> float:
    """Share of its bytes that a timm model loses when the weights of its linear layers become one byte each."""
    with torch.device("meta"):
        module = build(architecture)
    linear = sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))
    return 3 * linear / (4 * sum(p.numel() for p in module.parameters()))


def int8_of_the_zoo() -> pd.DataFrame:
    """Static INT8 of the zoo's members as data/compression.csv has it.

    Returns:
        A row per member: `model`, share of the bytes `smaller`, accuracy `gained`, and `half` of the wider of the
        two 95 % intervals, all in [0, 1].
    """
    with files("vizlib.tables").joinpath("compression.csv").open("r", encoding="utf-8") as file:
        table = pd.read_csv(file)
    plain, small = (table[table["way"] == way].set_index("model") for way in ("as it is", "INT8 static"))
    plain = plain.loc[small.index]
    found = pd.DataFrame(
        {
            "smaller": 1 - small["stored_mb"] / plain["stored_mb"],
            "gained": small["accuracy"] - plain["accuracy"],
            "half": np.maximum(small["high"] - small["low"], plain["high"] - plain["low"]) / 2,
        }
    )
    return found.reset_index()


@cache
def attention_peak(kind: str, size: int = 1024) -> int:
    """Bytes of live activations of a ViT-Ti/16 on one image, on the meta device.

    Args:
        kind: "exact" with the matrix written out, "fused" with exact attention in a kernel, or "linformer",
            "performer", "bigbird".
    """
    with torch.device("meta"):
        module = architectures.build("vit_exact" if kind == "fused" else f"vit_{kind}", image_size=size).eval()
        x = torch.empty(1, 3, size, size)
    with torch.no_grad(), FusedAttention() if kind == "fused" else nullcontext():
        return live_peak(lambda: module(x))


def scaled_memory(fused: bool, tokens: int = 1024) -> float:
    """How many times the memory attention needs for twice the tokens, on this processor."""

    def peak(n: int) -> int:
        q = torch.zeros(1, 4, n, 32)
        with torch.no_grad(), sdpa_kernel(SDPBackend.FLASH_ATTENTION if fused else SDPBackend.MATH):
            return live_peak(lambda: F.scaled_dot_product_attention(q, q, q))

    return peak(2 * tokens) / peak(tokens)


CLAIMS = (
    Claim("c05", "DynamicViT saves 40 % of the computation at equal accuracy (elsewhere: 20 to 40 %)", dynamic_vit),
    Claim(
        "c08",
        "Pruning heads by their mean attention score cuts 40 % of the FLOPs and keeps 95 % of the accuracy",
        pruned_heads,
    ),
    Claim("c15", "INT8 after training: 75 % smaller, less than 1 % accuracy lost", quantised),
    Claim(
        "c18",
        "FLOPs: EfficientNet-B7 37 G, ViT-L/16 190 G, Swin-B 47 G; 66, 307, 88 M parameters; 1200, 350, 820 images/s",
        flops_table,
    ),
    Claim("c20", "Linformer, Performer, BigBird: 90 % less memory on long sequences, 3 to 5 × faster", long_sequences),
    Claim("c23", "FlashAttention lowers the complexity of attention from O(n²) to O(n log n)", flash_attention),
    Claim(
        "c24", "Structured pruning of heads removes 30 to 50 % of the parameters, 1.5 to 2 × faster", structured_pruning
    ),
    Claim("c27", "MobileViT fits real time under 50 ms; Swin fits inputs above 1024 pixels", mobile_and_large),
    Claim("c31", "EfficientFormerV2 is 3 × as fast as Swin at equal accuracy", efficientformer),
)
