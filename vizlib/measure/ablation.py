"""What each part of the recipe is worth: the same network trained again with one part left out.

    python -m vizlib.measure.ablation --data photos --epochs 4 --table data/recipe_ablation.csv

A row is written when its training ends, and a training that was cut goes on, so the command can be run again
until all rows are there.  Short runs tell which parts pay early; stochastic depth, mixing and erasing are
made for long ones and may cost accuracy here.  Beside the table lies a file .npz of what each network's attention
rollout shows of sample photographs: left out -> (photographs, rows, columns).
"""

from __future__ import annotations

import argparse
import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vizlib import data as samples
from vizlib.capture.trace import trace
from vizlib.measure.heads import heads
from vizlib.methods.rollout import rollout
from vizlib.models import zoo
from vizlib.models.cards import measure, write_whole
from vizlib.models.load import load
from vizlib.models.recipe import Recipe
from vizlib.models.train import Run
from vizlib.models.zoo_architectures import IMAGE_SIZE

# what is left out -> the member and the fields of the recipe that say so; the first row is the whole recipe
PARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing": ("vit", {}),
    "warm-up": ("vit", {"warmup_epochs": 0.0}),
    "weight decay": ("vit", {"weight_decay": 0.0}),
    "gradient clipping": ("vit", {"clip_grad": 0.0}),
    "label smoothing": ("vit", {"label_smoothing": 0.0}),
    "random crops": ("vit", {"crop_scale": 1.0}),
    "RandAugment": ("vit", {"randaugment": ""}),
    "random erasing": ("vit", {"random_erasing": 0.0}),
    "MixUp and CutMix": ("vit", {"mixup": 0.0, "cutmix": 0.0}),
    "stochastic depth": ("vit", {"drop_path": 0.0}),
    "LayerScale": ("vit", {"layer_scale": 0.0}),
    "averaged weights": ("vit", {"ema_decay": 0.0}),
    "nothing, with a teacher": ("deit", {}),
    "distillation": ("deit", {"distillation": 0.0}),
}
PHOTOS = ("coffee", "cat", "rocket", "astronaut")  # of which rollout is kept
COLUMNS = (
    "left_out", "network", "epochs", "seed", "train_loss", "photos", "top1", "low", "high",
    "distance", "entropy", "seconds",
)  # fmt: skip


def ablate_recipe(data: Path, table: Path, whole: Recipe, runs: Path) -> list[dict[str, Any]]:
    """Train every row that the table lacks, and return all rows.

    Args:
        data: folder with train/CLASS/ and val/CLASS/.
        table: CSV file; `top1`, `low` and `high` (95 %, Wilson) are shares of the validation photos; `distance` (in
            widths of the image) and `entropy` (nats) of attention are means over heads, blocks and sample photographs.
        whole: the recipe of which each row lacks a part.
        runs: folder of the checkpoints.

    Raises:
        ValueError: the table holds runs of another length.
    """
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    maps = dict(np.load(table.with_suffix(".npz"))) if rows else {}
    if any(int(row["epochs"]) != whole.epochs for row in rows):
        raise ValueError(f"{table} needs rows of {whole.epochs} epochs; it has others. Name another table.")
    for left_out, (network, fields) in PARTS.items():
        if left_out in {row["left_out"] for row in rows}:
            continue
        out = runs / f"{network}-{'-'.join(left_out.replace(',', '').split())}"
        trained = _trained(network, data, out, replace(whole, **fields))
        seen, maps[left_out] = _attention(trained)
        rows.append({"left_out": left_out} | _measured(trained) | seen)
        _write(table, rows, maps)
    return rows


def _trained(network: str, data: Path, out: Path, recipe: Recipe) -> Run:
    run = Run(network, data, out, recipe)
    run.resume()
    run.train()
    return run


def _measured(run: Run) -> dict[str, Any]:
    found = measure(run.average.module.eval(), run.val_photos)
    low, high = found.top1_interval
    return {
        "network": run.name,
        "epochs": run.recipe.epochs,
        "seed": run.recipe.seed,
        "train_loss": round(run.log[-1]["loss"], 4),
        "photos": found.photos,
        "top1": found.top1,
        "low": round(low, 4),
        "high": round(high, 4),
        "seconds": round(sum(line["seconds"] for line in run.log)),
    }


def _attention(run: Run) -> tuple[dict[str, float], np.ndarray]:
    """How far and how evenly attention looks, and rollout of the sample photographs, (photographs, rows, columns)."""
    module: nn.Module = run.average.module
    size = (3, IMAGE_SIZE, IMAGE_SIZE)
    clf = load(module, input_size=size, mean=zoo.MEAN, std=zoo.STD, labels=run.train_photos.classes, device="cpu")
    seen = trace(clf, [samples.photo(name) for name in PHOTOS])
    means = heads(seen)[["distance", "entropy"]].mean().round(4)
    return means.to_dict(), rollout(seen).half().numpy()


def _write(table: Path, rows: list[dict[str, Any]], maps: dict[str, np.ndarray]) -> None:
    """The maps first: a row says that all of it is there."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **maps)  # type: ignore[arg-type]
    write_whole(table.with_suffix(".npz"), packed.getvalue())
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(table, text.getvalue().encode())


def main(argv: list[str] | None = None) -> None:
    """Run the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/CLASS/ and val/CLASS/")
    parser.add_argument("--table", type=Path, default=Path("data/recipe_ablation.csv"))
    parser.add_argument("--epochs", type=int, default=4, help="of each run; warm-up keeps its share of them")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--threads", type=int, default=0, help="processor threads; default: torch's choice")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    whole = Recipe(epochs=options.epochs, warmup_epochs=Recipe.warmup_epochs * options.epochs / Recipe.epochs)
    for row in ablate_recipe(options.data, options.table, whole, options.runs):
        top1, low, high = (float(row[key]) for key in ("top1", "low", "high"))
        print(f"without {row['left_out']:24} {top1:.1%} ({low:.1%} – {high:.1%})")


if __name__ == "__main__":
    main()
