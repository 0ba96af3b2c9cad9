"""The table of data/costs.csv: what each architecture with a published accuracy costs, measured from shapes.

    python -m vizlib.measure.costs data/costs.csv

Nothing is run with numbers but one small model of each family, so that no weights are needed.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, split_model_name_tag
from torch import nn
from tqdm import tqdm

from vizlib.capture.summary import family
from vizlib.measure.cost import params_of
from vizlib.measure.flops import count, on_meta
from vizlib.measure.memory import FusedAttention, peak_bytes
from vizlib.running import unchanged
from vizlib.types import Classifier

COLUMNS = ("architecture", "image_px", "family", "params", "gmacs", "attention_gmacs", "memory_mb")
LARGER = (256, 320, 384, 448, 512, 768, 1024)  # pixels; beside the size of the published accuracy


def cost_from_shapes(clf: Classifier) -> dict[str, Any]:
    """Parameters, GMACs and memory of one image of the classifier's size, without running it where that can be.

    Memory is that of weights, input and live activations, with attention in a fused kernel, in 10⁶ bytes: see
    `memory.peak_bytes`. A model that needs values (see `flops.count`) is run where it lives.
    """
    flops = count(clf)
    on = torch.device(flops.device)
    module = on_meta(clf.module) if on.type == "meta" else clf.module
    with FusedAttention() if on.type == "meta" else nullcontext(), unchanged(module):
        peak = peak_bytes(module, torch.zeros(1, *clf.input_size, device=on, dtype=clf.dtype))
    return {
        "image_px": clf.input_size[1],
        "params": params_of(clf.module),
        "gmacs": flops.total / 2e9,
        "attention_gmacs": flops.attention / 2e9,
        "memory_mb": peak / 1e6,
    }


def build(architecture: str, size: int | None = None) -> nn.Module:
    """One of timm's architectures with random weights, for images of another size if it is built for one."""
    fixed = size is not None and get_pretrained_cfg(architecture).fixed_input_size
    return timm.create_model(architecture, **({"img_size": size} if fixed else {}))


def rows(published: Sequence[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """The costs of the architectures of these checkpoints, at the published and at larger image sizes.

    A size that an architecture cannot take has no row.
    """
    own = dict.fromkeys((split_model_name_tag(r["model"])[0], int(r["input_px"])) for r in published)
    kinds = families([architecture for architecture, _ in own])
    larger = [(name, size) for size in LARGER for name, smaller in own if smaller < size]
    for name, size in tqdm(dict.fromkeys([*own, *larger]), desc="costs", disable=None):
        try:
            with torch.device("meta"):
                found = cost_from_shapes(classifier_of(name, size))
        except (RuntimeError, ValueError, TypeError, AssertionError):
            if (name, size) in own:
                raise
            continue  # built for one size, or for multiples of a window
        rounded = {column: float(f"{value:.5g}") for column, value in found.items() if isinstance(value, float)}
        yield {"architecture": name, "family": kinds[name], **found, **rounded}


def families(architectures: Sequence[str]) -> dict[str, str]:
    """CNN, Transformer, hybrid or MLP, found on the smallest of the architectures that differ in size alone."""
    found: dict[str, str] = {}
    for _, group in groupby(sorted(architectures, key=_kin), key=_kin):
        members = list(group)
        with torch.device("meta"):
            smallest = min(members, key=lambda name: params_of(build(name)))
        size = get_pretrained_cfg(smallest).input_size[-1]
        found |= dict.fromkeys(members, family(classifier_of(smallest, size)))
    return found


def classifier_of(architecture: str, size: int) -> Classifier:
    return Classifier(build(architecture, size).eval(), architecture, lambda photo: photo, (3, size, size))


def _kin(architecture: str) -> tuple[str, str]:
    """Where timm keeps an architecture, and its name up to the first digit or underscore."""
    module: str = timm.model_entrypoint(architecture).__module__
    return module, re.split(r"[\d_]", architecture)[0]


def main() -> None:
    published = files("vizlib.tables").joinpath("imagenet_top1.csv").read_text("utf-8").splitlines()
    with Path(sys.argv[1]).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows(list(csv.DictReader(published))):
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
