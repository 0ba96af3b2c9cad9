"""The verdict under a picture: right about maps that know nothing, made of scores that faithfulness gives."""

from __future__ import annotations

import matplotlib
import pandas as pd
import pytest
import tiny
import torch

import vizlib as vl
from vizlib.measure.faithfulness import centre
from vizlib.measure.trust import DRAWS, judge
from vizlib.show.caption import trust
from vizlib.types import Heatmap

matplotlib.use("Agg")
METHODS = ("gradcam", "chefer", "rollout")


@pytest.fixture(scope="module")
def vit():
    return tiny.classifier(tiny.vit(), name="vit")


def noise(clf, x, seed, size=8):
    values = torch.rand(len(x), size, size, generator=torch.Generator().manual_seed(1000 + seed))
    return Heatmap(values, clf.picture(x), "", clf.name)


@pytest.mark.parametrize("which", ["tiny cnn", "tiny vit", "zoo/resnet"])
def test_fresh_noise_passes_once_in_twenty_times(which):
    """Over 96 and over 24 maps that know nothing."""
    if which == "zoo/resnet":
        clf = vl.load(which)
        x = clf.prepare("coffee")
    else:
        clf, x = tiny.classifier(tiny.CNN() if which == "tiny cnn" else tiny.vit()), tiny.images(4)
    judged = judge(clf, x)
    p = torch.stack([judged(noise(clf, x, seed)).notes["p"] for seed in range(24)])
    assert (p < 0.051).float().mean() <= 0.15
    assert 0.3 < p.mean() < 0.75


def test_the_best_map_there_is_passes():
    """Squares ordered by what each alone is worth."""
    clf = tiny.classifier(tiny.CNN())
    x = tiny.images(2)
    heat = vl.explain(clf, x, "occlusion", window=4)
    notes = judge(clf, x)(heat).notes
    assert (notes["p"] < 0.051).all()
    assert (judge(clf, x)(Heatmap(-heat.values, heat.image, "", "", heat.target)).notes["p"] > 0.5).all()


def test_scores_are_those_of_faithfulness(vit):
    x = tiny.images(2)
    heat = judge(vit, x)(vl.explain(vit, x, "chefer"))
    for metric in ("deletion", "insertion"):
        options = {"steps": 8, "cells": 8, "draws": 0}
        torch.testing.assert_close(heat.notes[metric], vl.faithfulness(vit, x, heat, metric, **options).value)
        middle = Heatmap(centre(x), heat.image, "", "", heat.target)
        torch.testing.assert_close(
            heat.notes[f"centre {metric}"], vl.faithfulness(vit, x, middle, metric, **options).value
        )
    assert ((heat.notes["p"] * (1 + DRAWS)).round() / (1 + DRAWS)).equal(heat.notes["p"])


def test_random_maps_are_made_once_for_all_methods_of_a_size(vit, monkeypatch):
    """Images through the model: what the documentation says."""
    x, counted = tiny.images(1), []
    vit.module.register_forward_pre_hook(lambda _, given: counted.append(len(given[0])))
    judged, spent = judge(vit, x), []
    heats = [
        vl.explain(vit, x, method) for method in METHODS
    ]  # rollout is class-blind: the predicted class is followed
    for heat in heats:
        counted.clear()
        judged(heat)
        spent.append(sum(counted))
    vit.module._forward_pre_hooks.clear()
    assert 378 <= spent[0] <= 390
    assert 18 <= min(spent[1:]) <= max(spent[1:]) <= 22


def test_a_score_of_the_users_own_is_not_judged_as_if_it_were_a_class(vit):
    x = tiny.images(1)
    with pytest.raises(ValueError, match=r"a score of your own\. Name a class"):
        judge(vit, x)(vl.explain(vit, x, "gradcam", target=lambda logits: logits[:, 0] - logits[:, 1]))


def test_a_map_without_differences_is_certified_by_nothing(vit):
    x = tiny.images(3)
    values = torch.rand(3, 32, 32)
    values[0] = 0
    values[1] = 5 + 1e-6 * values[1]
    values[2] = torch.eye(2).repeat(16, 16)  # the same in every square
    heat = judge(vit, x)(Heatmap(values, vit.picture(x), "", "vit"))
    assert heat.notes["p"].isnan().all()
    assert not heat.notes["beats centre"].any()
    assert {trust(heat, i) for i in range(3)} == {"flat: says nothing"}


def noted(p, centre, score=True):
    numbers = {"deletion": 0.134, "insertion": 0.62, "random deletion": 0.31, "random insertion": 0.4}
    numbers |= {"centre deletion": 0.2, "centre insertion": 0.5, "p": p, "beats centre": centre}
    notes = {name: torch.tensor([number]) for name, number in numbers.items()}
    blank = torch.zeros(1, 3, 8, 8)
    return Heatmap(torch.rand(1, 4, 4), blank, "m", "x", score=torch.ones(1) if score else None, notes=notes)


def test_the_caption_names_direction_references_baseline_and_squares():
    lines = trust(noted(0.05, 1.0)).splitlines()
    assert lines == [
        "deletion 0.13 ↓ random 0.31, centre 0.20",
        "insertion 0.62 ↑ random 0.40, centre 0.50",
        "better than all 19 random maps and the centre",
        "blur, 8 × 8 squares",
    ]
    assert "19 random maps but not the centre" in trust(noted(0.05, 0.0))
    assert "chance: 1 of 19 random maps do as well" in trust(noted(0.1, 1.0))
    assert trust(noted(0.05, 1.0, score=False)).endswith("8 × 8 squares · class-blind")
    assert trust(Heatmap(torch.rand(1, 4, 4), torch.zeros(1, 3, 8, 8), "m", "x")) == ""


def test_trust_stands_in_picture_page_and_table(vit, tmp_path):
    x = tiny.images(1)
    found = vl.compare(vit, x, METHODS, trust=True, hover_mb=0)
    labels = [ax.get_xlabel() for ax in found.figure().axes]
    texts = [trust(heat) for heat in found.heatmaps.values()]
    assert [label for label in labels if label] == texts
    page = found.save(tmp_path / "x.html").read_text()
    for line in "\n".join(texts).splitlines():
        assert f'<div class="vl-trust">{line}</div>' in page
    table = pd.read_csv(found.save(tmp_path / "x.csv"))
    for method, heat in zip(METHODS, found.heatmaps.values(), strict=True):
        for name in ("deletion", "insertion", "p"):
            assert table[f"{method} {name}"][0] == pytest.approx(float(heat.notes[name]))
        assert table[f"{method} beats centre"][0] == ("yes" if heat.notes["beats centre"] else "no")
    silent = vl.compare(vit, x, METHODS, hover_mb=0)
    assert not any(ax.get_xlabel() for ax in silent.figure().axes)
    assert "gradcam p" not in silent.table
