"""Claims about how things work, looked into by running a small case."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import SEModule
from timm.models.convit import GPSA
from torch import Tensor, nn

from vizlib.capture.trace import trace
from vizlib.measure.claims.corrected import compound_scale
from vizlib.measure.claims.evidence import Claim, Finding
from vizlib.measure.claims.snippets import claimed
from vizlib.measure.receptive_field import receptive_field
from vizlib.methods.table import explain
from vizlib.models.architectures.cbam_resnet import CBAM
from vizlib.models.load import load
from vizlib.types import Trace


def relative_positions() -> Finding:
    swin, vit = position_spread("swin"), position_spread("vit")
    return Finding(
        f"what two tokens at a given displacement get from their places alone varies by {swin:.0e} over a window of "
        "Swin, "
        f"and by {vit:.2f} over the grid of zoo/vit (in units of its own deviation)",
        "counted here: vizlib.measure.claims.mechanism.position_spread; Liu et al. 2021, arXiv 2103.14030, equation 4",
        "holds",
        "for the position term; the network as a whole is not invariant: windows, patches and borders stay where "
        "they are when the image moves",
    )


def convit_gates() -> Finding:
    blocks = timm.create_model("convit_tiny", pretrained=False).blocks
    gated = [isinstance(block.attn, GPSA) for block in blocks]
    start = float(torch.sigmoid(blocks[0].attn.gating_param.detach()).mean())
    return Finding(
        f"{sum(gated)} of {len(gated)} layers have a gate between content and position, the first {sum(gated)}; the "
        "last "
        f"{len(gated) - sum(gated)} never had one. A gate begins at {start:.2f} for the position",
        "timm's convit_tiny, built here; d'Ascoli et al. 2021, arXiv 2103.10697",
        "off",
        "there are two, not four, such layers, by design and not by training; where the gates went must be read "
        "from trained weights: vl.trace(clf, photo).gates",
    )


def scaling() -> Finding:
    def operations(scale: tuple[float, float, float]) -> float:
        depth, width, side = scale
        return depth * width**2 * side**2

    read: dict[str, Any] = {}
    exec(claimed()["compound_scale"], read)
    grows = [operations(f(2)) / operations(f(1)) for f in (read["compound_scale"], compound_scale)]
    begins = read["compound_scale"](0)[:2]
    return Finding(
        f"a step of φ multiplies the operations by {grows[0]:.2f}, with the paper's α^φ, β^φ, γ^φ by {grows[1]:.2f}; "
        "at "
        f"φ = 0 the formula gives {begins[0]} times the depth and {begins[1]} times the width in place of 1",
        "counted here: vizlib.measure.claims.corrected.compound_scale; Tan, Le 2019, arXiv 1905.11946, equation 3",
        "wrong",
        "the coefficients are the bases of the powers, not factors in front of others",
    )


def global_from_the_start() -> Finding:
    cnn, vit = load("zoo/resnet", device="cpu"), load("zoo/vit", device="cpu")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *cnn.input_size, generator=generator)
    seen = float(receptive_field(cnn, x, "final_conv", draws=1)[0].notes["touched"])
    first = next(iter(trace(vit, x).attentions.values()))
    reach = float((first.weights() > 0).float().mean())
    return Finding(
        f"a cell in the middle of the last layer of zoo/resnet depends on {seen:.0%} of the pixels; in the first "
        "layer of "
        f"zoo/vit {reach:.0%} of the weights between tokens are above zero. How far they reach is another question: "
        "vl.heads gives the distance",
        "counted here: vizlib.measure.receptive_field, vizlib.capture.trace",
        "off",
        "a deep CNN sees the whole image in its last layers; right is that attention can from the first",
    )


def enhanced_gradcam() -> Finding:
    moved, of = heatmap_moves()
    return Finding(
        f"for two classes the map of the code shown differs by {moved:.0%} of its size; Chefer's relevance, which uses "
        f"the gradient, by {of:.0%}",
        "counted here: vizlib.measure.claims.mechanism.heatmap_moves; Chefer et al. 2021, arXiv 2103.15679",
        "wrong",
        "the gradient is computed and not used; the map is class-blind and no Grad-CAM",
    )


def gates() -> Finding:
    same = channel_attention_differs() < 1e-6  # of floats in [0, 1]: rounding, which depends on the processor
    order = [type(gate).__name__ for gate in CBAM(32).children()]
    kernel = next(m for m in CBAM(32).modules() if isinstance(m, nn.Conv2d) and m.in_channels == 2).kernel_size
    return Finding(
        f"with equal weights the code shown and timm's squeeze and excitation {'agree' if same else 'differ'}; CBAM "
        f"as built here is {' then '.join(order)}, the second with a kernel of {kernel[0]} × {kernel[1]}",
        "counted here: vizlib.measure.claims.mechanism.channel_attention_differs; Hu et al. 2017, arXiv 1709.01507; "
        "Woo et al. 2018, arXiv 1807.06521",
        "holds",
        "and the code that is called CBAM is its spatial half alone, and CBAM's channel half also pools by maximum",
    )


def position_spread(kind: str) -> float:
    """How much the position term between two tokens varies over pairs of the same displacement.

    Args:
        kind: "swin", the bias of a window with a random table; "vit", qᵀk of the trained positions of zoo/vit alone.

    Returns:
        The largest standard deviation over pairs of one displacement, in units of that over all pairs: 0 where the
        term depends on the displacement alone.
    """
    if kind == "swin":
        block = timm.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)).layers[0].blocks[0]
        table = block.attn.relative_position_bias_table
        table.data = torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
        term, side = block.attn._get_rel_pos_bias().detach()[0, 0], 7
    else:
        vit: Any = load("zoo/vit", device="cpu").module
        places, first = vit.pos_embed[0, 1:].detach(), vit.blocks[0].attn
        query, key, _ = (places @ first.qkv.weight.detach().T).chunk(3, -1)
        wide = first.head_dim
        term, side = query[:, :wide] @ key[:, :wide].T, 8
    rows, columns = torch.arange(side * side) // side, torch.arange(side * side) % side
    displacement = (rows[:, None] - rows) * 100 + columns[:, None] - columns
    groups = [term[displacement == d] for d in displacement.unique()]
    return max(float(group.std()) for group in groups if len(group) > 1) / float(term.std())


def heatmap_moves() -> tuple[float, float]:
    """How far the claimed map, and Chefer's, move from one class to another, as shares of their size."""
    clf = load("zoo/vit", device="cpu")
    x = torch.randn(1, *clf.input_size, generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {"torch": torch}
    exec(claimed()["attention_heatmap"], names)
    heatmap = names["attention_heatmap"]
    with torch.enable_grad():
        claimed_maps = [heatmap(_KeepsWeights(clf.module, trace(clf, x)), x[0], k) for k in (0, 1)]
    ours = [explain(clf, x, "chefer", target=k).values for k in (0, 1)]  # type: ignore[union-attr]
    return _apart(*claimed_maps), _apart(*ours)


class _KeepsWeights(nn.Module):
    """What the claimed code expects of a model: `layers[-1].attn_weights`, which no library's models keep."""

    def __init__(self, module: nn.Module, run: Trace) -> None:
        super().__init__()
        self.module = module
        last = list(run.attentions.values())[-1]
        self.layers = [type("Layer", (), {"attn_weights": last.weights()[:, 0]})]

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.requires_grad_())


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def channel_attention_differs() -> float:
    """Largest difference between the claimed channel attention and timm's SE module with the same weights."""
    names: dict[str, Any] = {"torch": torch, "nn": nn}
    exec(claimed()["ChannelAttention"], names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        read, timms = names["ChannelAttention"](32), SEModule(32, rd_ratio=1 / 16, rd_divisor=1)
    for ours, its in ((timms.fc1, read.fc[0]), (timms.fc2, read.fc[2])):
        ours.weight.data = its.weight.data[:, :, None, None]
        ours.bias.data = its.bias.data
    x = torch.randn(2, 32, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return float((read(x) - timms(x)).abs().max())


CLAIMS = (
    Claim("c07", "Relative position encoding is translation invariant, absolute is not", relative_positions),
    Claim(
        "c11",
        "ConViT: its first 10 layers keep the CNN's inductive bias, the last 4 turn to global attention",
        convit_gates,
    ),
    Claim("c17", "Compound scaling: depth 1.8^φ · 1.2, width 2.0^φ · 1.1, resolution 224 · 1.15^φ", scaling),
    Claim(
        "c22",
        "The receptive field of a CNN cannot hold the global context; attention is global from the first layer",
        global_from_the_start,
    ),
    Claim("c25", "The last layer's mean attention after a backward pass is an enhanced Grad-CAM", enhanced_gradcam),
    Claim("c26", "SE: global average, two linear layers, sigmoid; CBAM: channel then spatial, 7 × 7", gates),
)
