import csv
import dataclasses

import numpy as np
import pytest

from vizlib.measure import ablation
from vizlib.models.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = Recipe(epochs=1, batch_size=4, warmup_epochs=0.5, amp=False, teacher="")


def test_each_row_leaves_out_one_part_of_the_recipe():
    whole = Recipe()
    changed = []
    for network, fields in ablation.PARTS.values():
        assert network in ("vit", "deit")
        changed += fields
        for name, value in fields.items():
            assert not value or (name, value) == ("crop_scale", 1.0)
            assert getattr(whole, name) not in (value, 0, "")
    assert len(changed) == len(set(changed))
    kept = {"epochs", "batch_size", "lr", "flip", "mix_probability", "teacher", "amp", "seed"}
    assert kept | set(changed) == {field.name for field in dataclasses.fields(Recipe)}


def test_rows_are_written_one_by_one_and_only_the_missing_are_trained(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "PARTS", {k: ablation.PARTS[k] for k in ("nothing", "warm-up", "LayerScale")})
    table, trained = tmp_path / "table.csv", []
    train = ablation._trained

    def dies_in_the_third(network, data, out, recipe):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(recipe)
        return train(network, data, out, recipe)

    monkeypatch.setattr(ablation, "_trained", dies_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        ablation.ablate_recipe(folder, table, SHORT, tmp_path / "runs")
    first = list(csv.DictReader(table.open()))
    assert [line["left_out"] for line in first] == ["nothing", "warm-up"]
    assert [recipe.warmup_epochs for recipe in trained] == [0.5, 0.0]

    monkeypatch.setattr(ablation, "_trained", train)
    ablation.ablate_recipe(folder, table, SHORT, tmp_path / "runs")
    last = list(csv.DictReader(table.open()))
    assert last[:2] == first
    assert [line["left_out"] for line in last] == ["nothing", "warm-up", "LayerScale"]
    assert len({line["train_loss"] for line in last}) == 3
    maps = np.load(tmp_path / "table.npz")
    assert list(maps) == ["nothing", "warm-up", "LayerScale"]
    assert all(maps[name].shape == (len(ablation.PHOTOS), 8, 8) for name in maps)
    assert not np.array_equal(maps["nothing"], maps["LayerScale"])
    assert all(0 < float(line["distance"]) < 2**0.5 and float(line["entropy"]) > 0 for line in last)
    assert all(line["photos"] == "8" and 0 <= float(line["top1"]) <= 1 for line in last)
    with pytest.raises(ValueError, match="rows of 2 epochs"):
        ablation.ablate_recipe(folder, table, dataclasses.replace(SHORT, epochs=2), tmp_path / "runs")
