"""What each part of the recipe is worth: the same network trained again with one part left out.

    python -m vizlib.models.ablation --data photos --epochs 6 --table data/recipe_ablation.csv

A row is written when its training ends, and a training that was cut goes on, so the command can be run again
until all rows are there.  Short runs tell which parts pay early; stochastic depth, mixing and erasing are
made for long ones and may cost accuracy here.
"""

from __future__ import annotations

import argparse
import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vizlib.models.cards import measure, write_whole
from vizlib.models.recipe import Recipe
from vizlib.models.train import Run

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
COLUMNS = ("left_out", "network", "epochs", "seed", "train_loss", "photos", "top1", "low", "high", "seconds")


def ablate_recipe(data: Path, table: Path, whole: Recipe, runs: Path) -> list[dict[str, Any]]:
    """Train every row that the table lacks, and return all rows.

    Args:
        data: folder with train/CLASS/ and val/CLASS/.
        table: CSV file; `top1`, `low` and `high` (95 %, Wilson) are shares of the validation photos.
        whole: the recipe of which each row lacks a part.
        runs: folder of the checkpoints.

    Raises:
        ValueError: the table holds runs of another length.
    """
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    if any(int(row["epochs"]) != whole.epochs for row in rows):
        raise ValueError(f"{table} needs rows of {whole.epochs} epochs; it has others. Name another table.")
    for left_out, (network, fields) in PARTS.items():
        if left_out in {row["left_out"] for row in rows}:
            continue
        out = runs / f"{network}-{'-'.join(left_out.replace(',', '').split())}"
        rows.append({"left_out": left_out} | _row(network, data, out, replace(whole, **fields)))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(table, text.getvalue().encode())
    return rows


def _row(network: str, data: Path, out: Path, recipe: Recipe) -> dict[str, Any]:
    run = Run(network, data, out, recipe)
    run.resume()
    run.train()
    found = measure(run.average.module.eval(), run.val_photos)
    low, high = found.top1_interval
    return {
        "network": network,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "train_loss": round(run.log[-1]["loss"], 4),
        "photos": found.photos,
        "top1": found.top1,
        "low": round(low, 4),
        "high": round(high, 4),
        "seconds": round(sum(line["seconds"] for line in run.log)),
    }


def main(argv: list[str] | None = None) -> None:
    """Run the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/CLASS/ and val/CLASS/")
    parser.add_argument("--table", type=Path, default=Path("data/recipe_ablation.csv"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--threads", type=int, default=0, help="processor threads; default: torch's choice")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    for row in ablate_recipe(options.data, options.table, Recipe(epochs=options.epochs), options.runs):
        top1, low, high = (float(row[key]) for key in ("top1", "low", "high"))
        print(f"without {row['left_out']:24} {top1:.1%} ({low:.1%} – {high:.1%})")


if __name__ == "__main__":
    main()
