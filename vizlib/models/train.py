"""Train a member of the zoo on any folder of photos.

    python -m vizlib.models.train vit --data photos
    torchrun --nproc-per-node 4 -m vizlib.models.train vit --data photos

The folder holds train/CLASS/ and val/CLASS/.  After every epoch a checkpoint replaces the last one whole; a
run that was killed goes on with --resume, on a processor to the very weights of an uninterrupted one.  The
weights kept are the averaged ones after the last epoch: nothing is chosen on the validation photos.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3, random_seed
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from tqdm import tqdm

from vizlib.models import recipe as recipes
from vizlib.models import zoo
from vizlib.models.cards import export, write_whole
from vizlib.models.photos import Photos, augmentation, preprocessing
from vizlib.models.recipe import Recipe
from vizlib.tiny_imagenet import tiny_imagenet20


class Run:
    """One training: the network, its average, the optimiser and the log, from the first epoch to the last."""

    def __init__(self, name: str, data: Path, out: Path, recipe: Recipe) -> None:
        """Read the photos and build the network.

        Args:
            name: a member of the zoo.
            data: folder with train/CLASS/ and val/CLASS/.
            out: folder of the checkpoint and the log; made where missing.
            recipe: how to train.

        Raises:
            ValueError: if there are no photos, too few for a batch, or the two sets differ in their classes.
        """
        self.name, self.out, self.recipe = name, out, recipe
        self.rank, self.world, self.device = _join()
        random_seed(recipe.seed)
        self.train_photos = Photos(data / "train", augmentation(recipe))
        self.val_photos = Photos(data / "val", preprocessing())
        self.sampler: DistributedSampler = DistributedSampler(
            self.train_photos, self.world, self.rank, shuffle=True, seed=recipe.seed, drop_last=True
        )
        self.loader = DataLoader(self.train_photos, recipe.batch_size, sampler=self.sampler, drop_last=True)
        _check(self.train_photos, self.val_photos, len(self.loader), recipe)
        self._build(len(self.train_photos.classes))
        self.log: list[dict[str, float]] = []
        out.mkdir(parents=True, exist_ok=True)

    def _build(self, classes: int) -> None:
        recipe, steps = self.recipe, len(self.loader)
        layer_scale = recipe.layer_scale or None
        self.model: Any = zoo.build(self.name, classes, drop_path=recipe.drop_path, layer_scale=layer_scale)
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.teacher = self._teacher()
        self.average = ModelEmaV3(self.model, decay=recipe.ema_decay)
        if recipe.amp and self.device.type == "cpu":
            _depthwise_in_float32(self.model)
        self.parallel = DistributedDataParallel(self.model) if self.world > 1 else self.model
        self.optimizer = create_optimizer_v2(
            self.model,
            "adamw",
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            betas=(0.9, 0.999),
            fused=True,
        )
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=recipe.epochs * steps,
            lr_min=recipe.lr / 100,
            warmup_t=round(recipe.warmup_epochs * steps),
            warmup_lr_init=recipe.lr / 100,
            t_in_epochs=False,
        )
        self.mix = Mixup(
            mixup_alpha=recipe.mixup,
            cutmix_alpha=recipe.cutmix,
            prob=recipe.mix_probability if recipe.mixup or recipe.cutmix else 0.0,
            label_smoothing=recipe.label_smoothing,
            num_classes=classes,
        )
        self.loss = SoftTargetCrossEntropy()

    def _teacher(self) -> nn.Module | None:
        """Return the network that a distillation token listens to, or None where there is no such token."""
        wanted = self.recipe.teacher and self.recipe.distillation
        if not wanted or not hasattr(self.model, "set_distilled_training"):
            return None
        teacher, labels, _, _ = zoo.load(self.recipe.teacher)
        if list(labels) != self.train_photos.classes:
            raise ValueError(
                f"distillation needs a teacher of the same classes; zoo/{self.recipe.teacher} knows "
                f"{', '.join(labels[:3])} …. Leave it out with --teacher ''."
            )
        self.model.set_distilled_training(True)
        return teacher.to(self.device).requires_grad_(False)

    def train(self, stop: int = 0) -> None:
        """Train the epochs that are left, with a checkpoint and a line of the log after each.

        Args:
            stop: the last epoch, when the schedule is not to be run to its end; 0: run to the end.
        """
        for epoch in range(len(self.log), min(self.recipe.epochs, stop or self.recipe.epochs)):
            start = time.perf_counter()
            loss = self.train_epoch(epoch)
            line = {"epoch": epoch + 1, "loss": loss, "top1": self.validate()}
            line["lr"] = self.optimizer.param_groups[0]["lr"]
            line["seconds"] = time.perf_counter() - start
            self.log.append(line)
            if self.rank == 0:
                self.save()

    def train_epoch(self, epoch: int) -> float:
        """Train one epoch, counted from 0, and return its mean loss.

        The random state depends on the seed and the epoch alone, so that a resumed run needs none stored.
        """
        random_seed(self.recipe.seed + 1000 * (epoch + 1), self.rank)
        self.sampler.set_epoch(epoch)
        self.model.train()
        total = torch.zeros((), device=self.device)
        title = f"{self.name} {epoch + 1}/{self.recipe.epochs}"
        bar = tqdm(self.loader, title, disable=self.rank > 0, mininterval=1)
        for step, (photos, labels) in enumerate(bar, start=epoch * len(self.loader)):
            self.schedule.step_update(step)
            total += self.train_step(photos.to(self.device), labels.to(self.device), step)
        return total.item() / len(self.loader)

    def train_step(self, photos: Tensor, labels: Tensor, step: int) -> Tensor:
        """Train on one batch, photos (b, 3, h, w) and labels (b,), and return its loss, a scalar."""
        photos, targets = self.mix(photos, labels)
        photos = photos.contiguous(memory_format=torch.channels_last)
        with self.precision():
            loss = self.objective(self.parallel(photos), targets, photos)
        self.optimizer.zero_grad()
        loss.backward()
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.average.update(self.model, step)
        return loss.detach()

    def objective(self, logits: Any, targets: Tensor, photos: Tensor) -> Tensor:
        """Return the cross entropy with the soft targets (b, classes) and, if there is one, with the teacher.

        A taught network gives two logits (b, classes), of its class token and of its distillation token; the
        latter learn the class that the teacher names: DeiT's hard distillation.
        """
        if self.teacher is None:
            return self.loss(logits.float(), targets)
        by_class, by_distillation = logits
        with torch.no_grad():
            named = self.teacher(photos).argmax(dim=1)
        taught = nn.functional.cross_entropy(by_distillation.float(), named)
        return torch.lerp(self.loss(by_class.float(), targets), taught, self.recipe.distillation)

    @torch.inference_mode()
    def validate(self) -> float:
        """Return the share of validation photos that the averaged weights get right, in this precision."""
        right = 0
        with self.precision():
            for photos, labels in DataLoader(self.val_photos, batch_size=250):
                right += int((self.average.module(photos.to(self.device)).argmax(1).cpu() == labels).sum())
        return right / len(self.val_photos)

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Run what follows in bfloat16 where that is safe and, on a processor, attention as its two products.

        There the backward pass of the fused attention in bfloat16 takes about twice as long.
        """
        amp, kind = self.recipe.amp, self.device.type
        products = sdpa_kernel(SDPBackend.MATH) if amp and kind == "cpu" else nullcontext()
        with torch.autocast(kind, torch.bfloat16, enabled=amp), products:
            yield

    def save(self) -> None:
        """Write the checkpoint and the log."""
        state = {
            "name": self.name,
            "recipe": asdict(self.recipe),
            "log": self.log,
            "model": self.model.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        checkpoint = io.BytesIO()
        torch.save(state, checkpoint)
        write_whole(self.out / "checkpoint.pt", checkpoint.getvalue())
        table = io.StringIO()
        writer = csv.DictWriter(table, self.log[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.log)
        write_whole(self.out / "log.csv", table.getvalue().encode())

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder, where there is one.

        Raises:
            ValueError: if the checkpoint is of another network or recipe.
        """
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        for what, ours in (("name", self.name), ("recipe", asdict(self.recipe))):
            if state[what] != ours:
                raise ValueError(
                    f"--resume needs the {what} that the run in {self.out} began with, {state[what]}; "
                    f"got {ours}. Give the same options, or another --out."
                )
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.log = state["log"]

    def begin(self) -> None:
        """Make sure that no earlier training is overwritten.

        Raises:
            ValueError: if there is a checkpoint in the output folder.
        """
        if (self.out / "checkpoint.pt").exists():
            raise ValueError(
                f"a new training needs a folder without one; {self.out} holds a checkpoint. Go on from it with "
                f"--resume, or give another --out."
            )

    def export(self, dataset: str, command: str) -> zoo.Card:
        """Write the averaged weights and their card into the output folder, and return the card."""
        return export(
            self.name,
            self.average.module.state_dict(),
            self.val_photos,
            self.recipe,
            self.out,
            epochs=len(self.log),
            dataset=dataset,
            duration_s=sum(line["seconds"] for line in self.log),
            hardware=_hardware(self.device, self.world),
            command=command,
        )


def _depthwise_in_float32(model: nn.Module) -> None:
    """Take the convolutions of single channels out of the mixed precision.

    On a processor their backward pass in bfloat16 takes twice as long as in float32.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels:
            module.forward = partial(_in_float32, module.forward)  # type: ignore[method-assign]


def _in_float32(convolve: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return convolve(x.float())


def _join() -> tuple[int, int, torch.device]:
    """Return this process's rank, the number of processes and the device; join the others under torchrun."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        return 0, 1, device
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    return dist.get_rank(), dist.get_world_size(), device


def _check(train: Photos, val: Photos, steps: int, recipe: Recipe) -> None:
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise ValueError(f"train/ and val/ need the same classes; only one has {', '.join(odd)}. Add them.")
    if not steps:
        raise ValueError(
            f"training needs at least one batch of {recipe.batch_size} photos for each process; train/ has "
            f"{len(train)}. Take a smaller --batch-size."
        )


def _hardware(device: torch.device, world: int) -> str:
    if device.type == "cuda":
        return f"{world} × {torch.cuda.get_device_name(device)}"
    cores = world * torch.get_num_threads()
    return f"{cores} CPU core{'s' if cores > 1 else ''}"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    options = argparse.ArgumentParser("vizlib train", description="Train a member of the zoo on your photos.")
    options.add_argument("name", choices=zoo.names(), help="which network")
    options.add_argument("--data", type=Path, required=True, help="folder or tar of train/CLASS/ and val/CLASS/")
    options.add_argument("--dataset", default="", help="the photos' name on the card; default: the folder's")
    options.add_argument("--out", type=Path, help="folder of all that is written; default: runs/NAME")
    options.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    options.add_argument("--stop", type=int, default=0, help="end after this epoch; default: the last")
    options.add_argument("--threads", type=int, default=0, help="processor threads; default: torch's choice")
    recipes.add_options(options)
    return options


def main(argv: list[str] | None = None) -> None:
    """Run the command line: train, then write weights and card."""
    options = parser().parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    out = options.out or Path("runs") / options.name
    data = tiny_imagenet20(options.data) if options.data.is_file() else options.data
    run = Run(options.name, data, out, recipes.from_options(options))
    (run.resume if options.resume else run.begin)()
    run.train(options.stop)
    if run.rank == 0:
        card = run.export(options.dataset or options.data.name, recipes.command(options))
        print(f"{card.name}: {card.top1:.1%} of {card.photos} photos right; {out / card.name}.safetensors")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
