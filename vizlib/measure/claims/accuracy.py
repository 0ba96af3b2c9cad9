"""Claims about accuracies: which checkpoint is meant, trained on what, at which image size."""

from __future__ import annotations

import numpy as np

from vizlib.measure.claims import hybrids
from vizlib.measure.claims.evidence import COUNTED, SPEED, TIMM, Claim, Finding, authors, gmacs, params, points, top1

VIT_PAPER = "Dosovitskiy et al. 2020, arXiv 2010.11929, table 2"
CSWIN_PAPER = "Dong et al. 2021, arXiv 2107.00652: the results table of the authors' repository"


def resnet152() -> Finding:
    new, old = top1("resnet152.a1h_in1k"), top1("resnet152.tv_in1k")
    return Finding(
        f"{params('resnet152.tv_in1k'):.1f} M parameters; {new:.2f} % trained by the recipe of 2021 (a1h), {old:.2f} % "
        f"by that of 2015 (tv): the recipe alone is worth {new - old:.1f} points",
        f"{COUNTED}; {TIMM}",
        "holds in part",
        f"the parameters hold, and by the new recipe the accuracy ({points(82.6 - new)}); for the network of 2015 it "
        f"is off by {points(82.6 - old)}",
    )


def vit_large() -> Finding:
    at384, at224 = (top1(f"vit_large_patch16_{n}.augreg_in21k_ft_in1k") for n in (384, 224))
    return Finding(
        f"{params('vit_large_patch16_224.augreg_in21k_ft_in1k'):.1f} M parameters; 85.30 % in the paper, trained on "
        f"ImageNet-21k; later recipes {at224:.2f} % at 224 and {at384:.2f} % at 384 pixels",
        f"{COUNTED}; {VIT_PAPER}; {TIMM}",
        "holds",
        "with two things unsaid: 14 million more photographs, and an image size above 224",
    )


def cswin_tiny() -> Finding:
    tiny, base = authors("cswin_t"), authors("cswin_b")
    return Finding(
        f"{params('arch/cswin_t'):.1f} M parameters hold; {tiny} % is published for CSWin-T, and {base} % for CSWin-B "
        f"with {params('arch/cswin_b'):.1f} M. CSWin-T needs {gmacs('arch/cswin_t'):.2f} GMACs, ResNet-152 "
        f"{gmacs('resnet152.tv_in1k'):.2f}, ViT-L/16 {gmacs('vit_large_patch16_224.augreg_in21k_ft_in1k'):.1f}",
        f"counted here from shapes: vizlib.measure.cost.macs; {CSWIN_PAPER}",
        "wrong",
        f"the accuracy is that of another size ({points(84.2 - tiny)}); {SPEED}",
    )


def convnext_xl() -> Finding:
    xl, large = "convnext_xlarge.fb_in22k_ft_in1k", "convnext_large.fb_in1k"
    return Finding(
        f"ConvNeXt-XL has {params(xl):.1f} M parameters and {top1(xl):.2f} %, after ImageNet-22k; "
        f"ConvNeXt-L has {params(large):.1f} M",
        f"{COUNTED}; {TIMM}",
        "wrong",
        f"parameters off by {205 - params(xl):+.0f} M (about those of ConvNeXt-L); the accuracy is "
        f"{points(86.8 - top1(xl))} off and rests on more photographs",
    )


def swin_against_vit() -> Finding:
    swin = top1("swin_base_patch4_window7_224.ms_in1k")
    scratch, deit = top1("vit_base_patch16_224.augreg_in1k"), top1("deit_base_patch16_224.fb_in1k")
    more = top1("swin_base_patch4_window7_224.ms_in22k_ft_in1k") - top1("vit_base_patch16_224.augreg_in21k_ft_in1k")
    return Finding(
        f"on ImageNet-1k alone {swin:.2f} % against {scratch:.2f} % (ViT, AugReg: {points(swin - scratch)}) or "
        f"{deit:.2f} % (the same network by DeiT's recipe: {points(swin - deit)}); after ImageNet-21k {points(more)}",
        TIMM,
        "off",
        "2.3 is none of the three differences; they depend on the recipe more than on the architecture",
    )


def lv_vit() -> Finding:
    return Finding(
        f"on ImageNet-1k alone 86.4 % with 150 M parameters on images of 512 pixels, 84.4 % with 26 M at 384, "
        f"{authors('lvvit_s')} % at 224 ({params('arch/lvvit_s'):.1f} M as built here)",
        "Jiang et al. 2021, arXiv 2104.10858, abstract; sizes of the images: the results table of the authors' "
        "repository, which could not be looked up; parameters counted here: vizlib.measure.cost.params_of",
        "holds",
        "for the largest member, on images of 512 pixels, which the claim leaves out; and token labelling needs a "
        "second network that labels every patch",
    )


def deit_small() -> Finding:
    alone, distilled = top1("deit_small_patch16_224.fb_in1k"), top1("deit_small_distilled_patch16_224.fb_in1k")
    return Finding(
        f"{alone:.2f} % after 300 epochs without a teacher, {distilled:.2f} % with distillation",
        f"{TIMM}; Touvron et al. 2020, arXiv 2012.12877",
        "holds in part",
        f"for 300 epochs without distillation ({points(79.9 - alone)}), not for the 100 epochs with distillation that "
        "stand beside it",
    )


def eva02() -> Finding:
    name = "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k"
    return Finding(
        f"{top1(name):.2f} % at 448 pixels, {params(name):.1f} M parameters, {gmacs(name):.0f} GMACs, pre-trained on "
        "38 million photographs; the paper says 90.0 %",
        f"{TIMM}; {COUNTED}; Fang et al. 2023, arXiv 2303.11331, abstract",
        "off",
        f"the accuracy by {points(90.2 - top1(name))}; and it is not by Meta, and has no hierarchy: a plain ViT",
    )


def swin_base_and_large() -> Finding:
    base, large = (f"swin_{size}_patch4_window7_224.ms_in22k_ft_in1k" for size in ("base", "large"))
    return Finding(
        f"{params(base):.1f} M and {top1(base):.2f} %, {params(large):.1f} M and {top1(large):.2f} %, both after "
        f"ImageNet-22k; Swin-L needs {gmacs(large) / gmacs(base):.2f} times the GMACs",
        f"{COUNTED}; {TIMM}",
        "holds in part",
        f"parameters, and the accuracies after ImageNet-22k; {SPEED}",
    )


def convnext_against_vit() -> Finding:
    tiny, orig = "convnext_tiny.fb_in1k", "vit_base_patch16_224.orig_in21k_ft_in1k"
    augreg, deit = top1("vit_base_patch16_224.augreg_in21k_ft_in1k"), top1("deit_base_patch16_224.fb_in1k")
    return Finding(
        f"{top1(tiny):.2f} % against {top1(orig):.2f} % (ViT-B's first recipe, after ImageNet-21k), {deit:.2f} % "
        "(DeiT-B, "
        f"ImageNet-1k alone) or {augreg:.2f} % (AugReg); ViT-B/16 needs {gmacs(orig) / gmacs(tiny):.1f} times the "
        "GMACs",
        f"{TIMM}; {COUNTED}",
        "holds in part",
        f"for two of three checkpoints, and not at equal parameters ({params(tiny):.1f} M against "
        f"{params(orig):.1f} M); {SPEED}",
    )


def efficientnet_b7() -> Finding:
    b7, resnet = "tf_efficientnet_b7.aa_in1k", "resnet50.tv_in1k"
    gain, fewer = top1(b7) - top1(resnet), params(b7) / params(resnet)
    return Finding(
        f"{params(b7):.1f} M parameters, {top1(b7):.2f} %; ResNet-50 has {params(resnet):.1f} M and "
        f"{top1(resnet):.2f} %: "
        f"{points(gain)} with {fewer:.1f} times the parameters. The paper gains 6.3 points by B4",
        f"{COUNTED}; {TIMM}; Tan, Le 2019, arXiv 1905.11946, section 1",
        "wrong",
        "B7 has more parameters than ResNet-50, not 83 % fewer; the difference belongs to B4",
    )


def swin_tiny() -> Finding:
    name, tops = "swin_tiny_patch4_window7_224.ms_in1k", {}
    for recipe in ("augreg_in1k", "orig_in21k_ft_in1k", "augreg_in21k_ft_in1k"):
        tops[recipe] = top1(name) - top1(f"vit_base_patch16_224.{recipe}")
    told = ", ".join(f"{points(gap)} ({recipe})" for recipe, gap in tops.items())
    return Finding(
        f"{params(name):.1f} M parameters, {top1(name):.2f} %; against ViT-B/16 at 224 pixels {told}",
        f"{COUNTED}; {TIMM}",
        "holds in part",
        "for Swin-T itself; the size and sign of the difference depend on how ViT-B was trained",
    )


def hybrids_gain() -> Finding:
    every, untaught = hybrids.groups(), hybrids.groups(teachers=False)
    told = [_gain(every), _gain(untaught)]
    over_best = hybrids.over_the_best(*untaught)
    return Finding(
        "against a line through CNNs and Transformers (accuracy over log parameters, ImageNet-1k alone) the median of "
        f"{len(every[0])} hybrids gains {told[0]}, that of the {len(untaught[0])} that had no teacher {told[1]}. "
        "Against the best of them with about its parameters, no teacher either, the median is "
        f"{points(float(np.median(over_best)))}, and {(over_best > 0).sum()} of {len(over_best)} gain at all",
        f"counted here: vizlib.measure.claims.hybrids, with 95 % intervals by the bootstrap, over {TIMM}",
        "holds in part",
        "against the average network, whose recipe is often older; the interval is wider than the claim's, and against "
        "the best network of the same size most hybrids gain nothing. That bar is high: the best is picked by its "
        "accuracy",
    )


def _gain(groups: tuple[np.ndarray, np.ndarray]) -> str:
    low, high = hybrids.interval_over_the_line(*groups)
    return f"{points(float(np.median(hybrids.over_the_line(*groups))))} (95 % interval {low:+.1f} to {high:+.1f})"


def cswin_best() -> Finding:
    return Finding(
        f"85.4 % without and 87.5 % with ImageNet-21k is the paper's best; CSWin-T, -S, -B: {authors('cswin_t')}, "
        f"{authors('cswin_s')}, {authors('cswin_b')} % at 224 pixels",
        f"the best: the abstract of the paper; the others: {CSWIN_PAPER}",
        "wrong",
        f"no member reaches 87.3 % on ImageNet-1k alone ({points(87.3 - 85.4)}); and CSWin-T has "
        f"{authors('cswin_t')}, not 84.2 %",
    )


def which_swin_base() -> Finding:
    names = ("swin_base_patch4_window7_224.ms_in1k", "swin_base_patch4_window7_224.ms_in22k_ft_in1k")
    alone, more = map(top1, names)
    big = top1("swin_base_patch4_window12_384.ms_in1k")
    return Finding(
        f"{alone:.2f} % on ImageNet-1k alone, {more:.2f} % after ImageNet-22k, both at 224 pixels; {big:.2f} % at 384",
        TIMM,
        "holds",
        "both do: two checkpoints of one network; a table that mixes them compares data, not architectures",
    )


def largest() -> Finding:
    return Finding(
        "ViT-H/14 88.55 % with JFT-300M; CoAtNet 86.0 % without extra data, 88.56 % with ImageNet-21k, 90.88 % with "
        "JFT-3B (ten times JFT-300M). 90.45 % is usually quoted for CoAtNet-6, the second largest, with JFT-3B; the "
        "paper's table could not be looked up",
        f"{VIT_PAPER}; Dai et al. 2021, arXiv 2106.04803, abstract",
        "holds in part",
        "for ViT-H; for CoAtNet the abstract reaches 90 % with JFT-3B only, ten times the photographs that the claim "
        "names",
    )


def vit_against_resnet() -> Finding:
    vit, later = top1("deit_small_patch16_224.fb_in1k"), top1("deit3_small_patch16_224.fb_in1k")
    old, new = top1("resnet50.tv_in1k"), top1("resnet50.a1_in1k")
    sizes = f"{params('deit_small_patch16_224.fb_in1k'):.1f} M and {params('resnet50.tv_in1k'):.1f} M parameters"
    return Finding(
        f"ViT-S against ResNet-50 ({sizes}): by DeiT's recipe (300 epochs) {points(vit - old)} over ResNet-50 of 2015, "
        f"{points(vit - new)} over its recipe A1 (600 epochs), {points(vit - 79.8)} over A2 (300 epochs, 79.8 %); by "
        f"DeiT III's (800 epochs, with the loss and optimiser of A1) {points(later - new)} over A1",
        f"{COUNTED}; {TIMM}; A1 and A2: Wightman, Touvron, Jégou 2021, arXiv 2110.00476, whose tables could not "
        "be looked up; Touvron et al. 2022, "
        "arXiv 2204.07118",
        "wrong",
        "as a rule: the difference is that of the recipes. No two of these are equal; where they are nearest, in "
        f"epochs or in loss and optimiser, it is {points(vit - 79.8)} and {points(later - new)}, not 3.2",
    )


CLAIMS = (
    Claim("c01", "ResNet-152: 60.2 M parameters, 82.6 % top-1", resnet152),
    Claim("c02", "ViT-Large: 307 M parameters, 85.3 %", vit_large),
    Claim(
        "c03",
        "CSWin-Tiny: 23 M, 84.2 %; 1.5 × the throughput of ResNet-152, 5.1 × that of ViT-Large (1800, 1200, 350 img/s)",
        cswin_tiny,
    ),
    Claim("c04", "ConvNeXt-XL: 205 M, 86.8 %", convnext_xl),
    Claim("c06", "Swin-B is 2.3 points above ViT-B", swin_against_vit),
    Claim("c09", "LV-ViT with token labelling reaches 86.4 % on ImageNet-1k alone", lv_vit),
    Claim("c10", "DeiT's recipe (100 epochs, distillation): ViT-Small 79.9 %", deit_small),
    Claim("c12", "EVA-02, by Meta with hierarchical attention: 90.2 %", eva02),
    Claim("c13", "Swin-B: 88 M, 85.2 %, 312 images/s; Swin-L: 197 M, 86.3 %, 198 images/s", swin_base_and_large),
    Claim(
        "c14", "At equal parameters ConvNeXt-Tiny 82.1 % against ViT-Base 81.8 %, 2.3 × faster", convnext_against_vit
    ),
    Claim(
        "c16", "EfficientNet-B7: 66 M, 84.4 %, 6.3 points above ResNet-50 with 83 % fewer parameters", efficientnet_b7
    ),
    Claim("c19", "Swin-T: 28 M, 81.3 %, 1.8 points above ViT-B/16", swin_tiny),
    Claim("c21", "Hybrids gain 1.5 to 2.3 points at equal parameters", hybrids_gain),
    Claim("c28", "CSWin reaches 87.3 % on ImageNet-1k", cswin_best),
    Claim("c29", "Swin-B: 85.2 % in one article, 83.5 % in another", which_swin_base),
    Claim("c30", "ViT-Huge 88.5 %; CoAtNet 90.45 % with JFT-300M", largest),
    Claim("c32", "At equal parameters ViT is 3.2 points above ResNet", vit_against_resnet),
)
