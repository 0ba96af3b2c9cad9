"""The families of classifiers: the smallest member of every (file, class) in timm's registry.

`members.csv` holds the choice, because building each of timm's models once, without memory for its weights, takes
minutes; `PYTHONPATH=tests python -m families.families` writes it anew after a change of timm, and a test compares the
two.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from families.sources import HF, TORCHVISION

HERE = Path(__file__).parent
MEMBERS = HERE / "members.csv"
EXCEPTIONS = HERE / "exceptions.csv"
LARGEST = 100e6  # parameters


@dataclass(frozen=True)
class Member:
    """The smallest classifier of a family.

    Attributes:
        family: file and class, "swin_transformer.SwinTransformer"; for other sources than timm the name.
        name: of the model in timm, or "torchvision/…" or "hf/…".
        parameters: how many; 0 where no choice was made by them.
    """

    family: str
    name: str
    parameters: int = 0


def members() -> list[Member]:
    """What `members.csv` holds."""
    with MEMBERS.open(newline="") as file:
        return [Member(row["family"], row["name"], int(row["parameters"])) for row in csv.DictReader(file)]


def everyone() -> list[Member]:
    """The families of timm, torchvision's classifiers and Hugging Face's."""
    others = [f"torchvision/{name}" for name in TORCHVISION] + [f"hf/{name}" for name in HF]
    return [*members(), *(Member(name, name) for name in others)]


def exceptions() -> dict[tuple[str, str], str]:
    """(family, cell) -> why it may be missed."""
    with EXCEPTIONS.open(newline="") as file:
        return {(row["family"], row["cell"]): row["reason"] for row in csv.DictReader(file)}


def choose(names: Iterable[str]) -> list[Member]:
    """The smallest member of every family among these models that has at most `LARGEST` parameters."""
    smallest: dict[str, Member] = {}
    for name in names:
        with torch.device("meta"):
            module = timm.create_model(name)
        file = timm.model_entrypoint(name).__module__.rpartition(".")[2]
        family = f"{file}.{type(module).__name__}"
        found = Member(family, name, sum(p.numel() for p in module.parameters()))
        if found.parameters <= LARGEST and (family not in smallest or found.parameters < smallest[family].parameters):
            smallest[family] = found
    return sorted(smallest.values(), key=lambda m: m.family)


def write(chosen: list[Member]) -> None:
    with MEMBERS.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("family", "name", "parameters"))
        rows.writerows((m.family, m.name, m.parameters) for m in chosen)


if __name__ == "__main__":
    write(choose(timm.list_models()))
    sys.stdout.write(f"{len(members())} families in {MEMBERS}\n")
