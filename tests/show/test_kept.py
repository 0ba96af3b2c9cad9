"""Kept patches, by what is drawn."""

import matplotlib
import pytest
import tiny
import torch

from vizlib import cli
from vizlib.capture.trace import trace
from vizlib.models.architectures.dynamic_vit import DynamicViT
from vizlib.show.plot import kept

matplotlib.use("Agg")


def pruned(size: int = 64) -> DynamicViT:
    return DynamicViT(24, 4, 3, 2.0, keep=0.5, stages=(1, 3), num_classes=tiny.CLASSES, image_size=size)


def test_what_was_dropped_is_veiled_and_nothing_else():
    run = trace(tiny.classifier(pruned(), 64), tiny.images(2, 64))
    for photo in (0, 1):
        axes = kept(run, photo, veil=0.7)
        assert [len(ax.images) for ax in axes] == [1, 2, 2]  # the photograph, and two stages
        for ax, name, count in zip(axes[1:], ("blocks.1.attn", "blocks.3.attn"), (8, 4), strict=True):
            veil = torch.tensor(ax.images[1].get_array()[..., 3])
            assert veil.unique().tolist() == [0.0, pytest.approx(0.7)]
            assert (veil.flatten() == 0).nonzero().flatten().tolist() == run.kept[name][photo].tolist()
            assert ax.get_title() == f"from {name} on\n{count} of 16 patches"
    matplotlib.pyplot.close("all")


def test_photographs_that_are_not_square():
    run = trace(tiny.classifier(pruned(), (64, 96)), tiny.images(1, (64, 96)))
    assert kept(run)[1].images[1].get_array().shape == (4, 6, 4)
    matplotlib.pyplot.close("all")


def test_the_command_draws_what_a_vit_of_the_zoo_keeps(tmp_path, capsys):
    out = tmp_path / "cat.png"
    assert cli.main(["kept", "zoo/vit", "cat", "--share", "0.5", "--out", str(out)]) == 0
    assert "zoo/vit, keep 0.5 · cat · 32, 16, 8 patches" in capsys.readouterr().out
    assert out.stat().st_size > 10_000
    assert cli.main(["kept", "zoo/vit", "cat", "--out", str(out)]) == 2
    assert "zoo/vit keeps all" in capsys.readouterr().err


def test_a_model_that_drops_nothing_has_nothing_to_draw():
    with pytest.raises(ValueError, match=r"tiny keeps all.*dynamicvit"):
        kept(trace(tiny.classifier(tiny.vit()), tiny.images(1)))
