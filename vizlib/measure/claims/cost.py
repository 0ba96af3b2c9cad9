"""Claims about what classifiers cost: operations, parameters, memory, speed."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vizlib.measure.claims.evidence import COUNTED, TIMM, Claim, Finding, at_size, authors, gmacs, params, top1
from vizlib.measure.cost import growth
from vizlib.measure.costs import build, classifier_of
from vizlib.measure.flops import count
from vizlib.measure.memory import FusedAttention, live_peak
from vizlib.models.architectures import registry as architectures
from vizlib.models.load import load

VIT_B = "vit_base_patch16_224.augreg_in1k"
SPEED = "the speed belongs to a machine: the notebook measures the ratio on yours"


def dynamic_vit() -> Finding:
    saved = 1 - gmacs("arch/dynamicvit_deit_s_07") / gmacs("deit_small_patch16_224.fb_in1k")
    lost = top1("deit_small_patch16_224.fb_in1k") - authors("dynamicvit_deit_s_07")
    return Finding(
        f"keeping 70 % of the tokens three times saves {saved:.0%} of DeiT-S's operations and costs {lost:.1f} points; "
        "the paper: 31 to 37 % fewer operations, over 40 % more throughput, at most 0.5 points lost",
        f"vl.cost of arch/dynamicvit_deit_s_07; vl.architectures(); {TIMM}; Rao et al. 2021, arXiv 2106.02034, "
        "abstract",
        "off: 40 % is the throughput gained, not the computation saved, and the accuracy is not equal",
    )


def pruned_heads() -> Finding:
    whole, heads = head_share("vit_base_patch16_224")["gmacs"]
    return Finding(
        f"all heads of ViT-B/16 together (their projections and the attention) are {heads / whole:.1%} of its "
        "operations "
        "at 224 pixels, the MLPs most of the rest; and a mean attention score says nothing of a head: the rows of "
        "every "
        "head sum to 1, so that its mean over 197 keys is 1/197, for every head",
        "claims.cost.head_share; the test of the corrected code; Michel et al. 2019, arXiv 1905.10650, for a score by "
        "gradient",
        "wrong: 40 % cannot be reached by removing heads, not even all of them; and the score ranks nothing",
    )


def quantised() -> Finding:
    vit, cnn = (smaller_by_int8(name) for name in ("vit_base_patch16_224", "resnet50"))
    return Finding(
        f"one byte in place of four for the weights of linear layers makes ViT-B/16 {vit:.1%} smaller and ResNet-50 "
        f"{cnn:.1%}: what is not quantised keeps its size",
        "claims.cost.smaller_by_int8",
        "holds for the size where all layers are quantised (static quantisation); off for a CNN by the dynamic "
        "quantisation of linear layers that is shown; the accuracy must be measured for each model",
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
        "holds, but these are operations of one image at 600, 384 and 384 pixels, and not of training, while the "
        f"accuracies beside them are for other sizes; {SPEED}",
    )


def long_sequences() -> Finding:
    exact = attention_peak("exact")
    saved = {kind: 1 - attention_peak(kind) / exact for kind in ("linformer", "performer", "bigbird", "fused")}
    return Finding(
        "one image of 1024 pixels, 4097 tokens of ViT-Ti/16: the live activations shrink, against attention that "
        "writes "
        f"its matrix out, by {saved['linformer']:.0%} with Linformer, {saved['performer']:.0%} with Performer and "
        f"{saved['fused']:.0%} with exact attention in a fused kernel; BigBird's pattern as a mask saves nothing "
        f"({saved['bigbird']:.0%}), it needs a kernel for sparse blocks",
        "claims.cost.attention_peak",
        "off: less than 90 % at this length, more on longer ones; and a fused exact kernel saves as much without any "
        f"approximation. 3 to 5 times as fast: {SPEED}",
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
        "measure.cost.growth; claims.cost.scaled_memory; Dao et al. 2022, arXiv 2205.14135, theorem 1",
        "wrong: FlashAttention is exact, its time stays O(n²); what falls to O(n) is the memory, and with it the "
        "traffic",
    )


def structured_pruning() -> Finding:
    whole, heads = head_share("vit_base_patch16_224")["params"]
    return Finding(
        f"all heads of ViT-B/16 hold {heads / whole:.1%} of its parameters; removing 30 % of them removes "
        f"{0.3 * heads / whole:.1%}. The code shown multiplies an activation by a mask and removes nothing",
        "claims.cost.head_share; the test of the corrected code",
        f"wrong: 30 to 50 % is out of reach for 30 % of the heads; {SPEED}",
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
        "holds for Swin: windows keep attention linear in the pixels; for MobileViT 50 ms depends on the device: the "
        "notebook measures it",
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
        f"holds for the operations at equal accuracy (with a teacher, which Swin had not); {SPEED}",
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
