"""The training recipe: every part one field, every field one option of the command line."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class Recipe:
    """How a member of the zoo is trained; the same for all, so that only the architecture differs.

    The parts are those of DeiT (Touvron et al. 2021, arXiv 2012.12877), milder, for few photos and epochs.
    Zero, or an empty text, switches a part off.
    """

    epochs: int = 40
    batch_size: int = 64  # per process; even, because MixUp pairs the photos of a batch
    lr: float = 1e-3  # of AdamW, betas 0.9 and 0.999, at the end of the warm-up
    weight_decay: float = 0.05  # not on biases, norms and position embeddings
    warmup_epochs: float = 2.0  # linear from lr / 100, then a cosine down to lr / 100
    clip_grad: float = 1.0  # largest norm of the gradient
    label_smoothing: float = 0.1
    crop_scale: float = 0.4  # smallest share of its area that a random crop leaves of a photo; 1: no crop
    flip: float = 0.5  # probability
    randaugment: str = "rand-m5-n1-mstd0.5-inc1"  # timm's notation: magnitude 5, one operation a photo
    random_erasing: float = 0.1  # probability
    mixup: float = 0.2  # alpha of the beta distribution
    cutmix: float = 1.0  # alpha of the beta distribution
    mix_probability: float = 0.5  # share of the batches that are mixed, half by MixUp and half by CutMix
    drop_path: float = 0.05  # stochastic depth: rate of the last block
    layer_scale: float = 0.1  # first value; CaiT's up to 18 blocks (Touvron et al. 2021, arXiv 2103.17239)
    ema_decay: float = 0.995  # per step, of the averaged weights, which are the ones kept
    teacher: str = "resnet"  # trained member whose label the distillation token learns, in networks with one
    distillation: float = 0.5  # the teacher's share of the loss
    amp: bool = True  # bfloat16 autocast
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(
                f"MixUp pairs the photos of a batch and needs an even number; got batch_size "
                f"{self.batch_size}. Take {max(2, self.batch_size + 1)}."
            )
        if self.epochs < 1:
            raise ValueError(f"training needs at least one epoch; got {self.epochs}. Take 1 or more.")
        if not 0 < self.crop_scale <= 1:
            raise ValueError(
                f"a crop leaves a share of the photo in (0, 1]; got crop_scale {self.crop_scale}. "
                f"Take 0.4, or 1 for no crop."
            )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add one option for every field of the recipe: `--lr`, `--no-amp` and so on."""
    group = parser.add_argument_group("recipe", "0, or '', switches a part off")
    for field in fields(Recipe):
        option = f"--{field.name.replace('_', '-')}"
        kind = type(field.default)
        if kind is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            group.add_argument(option, type=kind, default=field.default, help=f"default: {field.default}")


def from_options(options: argparse.Namespace) -> Recipe:
    """Return the recipe that a parsed command line asks for.

    Raises:
        ValueError: if a value cannot be; see `Recipe`.
    """
    return Recipe(**{field.name: getattr(options, field.name) for field in fields(Recipe)})


def command(options: argparse.Namespace) -> str:
    """Return the command that trains the same again, without the folders of this machine."""
    given, default = asdict(from_options(options)), asdict(Recipe())
    words = ["vizlib", "train", options.name, "--data", options.data.name]
    for option in ("threads", "stop"):
        if value := getattr(options, option):
            words += [f"--{option}", str(value)]
    for key, value in given.items():
        option = key.replace("_", "-")
        if isinstance(value, bool) and value != default[key]:
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value != default[key] or key == "epochs":
            words += [f"--{option}", str(value)]
    return shlex.join(words)
