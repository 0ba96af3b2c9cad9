"""The table of architectures: rows are what was run, exceptions are in the list, anything else fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from vizlib import cli
from vizlib.explore import catalogue
from vizlib.explore.catalogue import BEGIN, CELLS, END, build, check, enliven, entries, exceptions, line, look, written
from vizlib.models.architectures.registry import ARCHITECTURES

README = Path(__file__).parents[2] / "notebooks/README.md"
QUICK = ["ViT-Ti, Performer", "ViT-Ti, Linformer", "CBAM-ResNet-18"]
WANTED = {"EfficientNet", "ConvNeXt", "ViT", "DeiT", "Swin", "SwinV2", "CSWin", "EVA-02", "MAE", "CvT", "TimeSformer"}


def test_a_quick_part_of_the_list_has_no_failing_cell():
    found = {entry.name: look(entry) for entry in entries(QUICK)}
    assert {name: row.failures for name, row in found.items()} == {name: {} for name in found}
    performer, linformer = (found[f"ViT-Ti, {name}"].cells for name in ("Performer", "Linformer"))
    assert performer["attention"] == linformer["attention"] == "12 linear"
    assert performer["rollout"] == "7 × 7"
    assert linformer["rollout"].startswith("– (")
    assert performer["cost"] == "5.7 M, 1.31 GMACs at 224 px"
    assert found["CBAM-ResNet-18"].cells["gates"] == "8 channel, 8 spatial"
    assert found["CBAM-ResNet-18"].cells["Grad-CAM"] == "4 × 4 at layer4"


def test_the_list_is_whole_and_its_exceptions_belong_to_it():
    names = [entry.name for entry in entries()]
    assert len(set(names)) == len(names)
    families = {entry.family for entry in entries()}
    for (family, cell), reason in exceptions().items():
        assert family in families
        assert cell in CELLS
        assert reason
    assert families >= WANTED | {"CLIP", "ALIGN"}
    assert {f"arch/{name}" for name in ARCHITECTURES} <= {entry.model for entry in entries()}


def test_the_readme_has_every_row_and_no_failure():
    text = README.read_text("utf-8")
    inside = text.partition(BEGIN)[2].partition(END)[0]
    rows = [each for each in inside.splitlines() if "| `" in each]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [entry.name for entry in entries()]
    assert "failed" not in inside
    for entry, row in zip(entries(), rows, strict=True):
        empty = {cell: words for cell, words in zip(CELLS, row[:-2].split(" | ")[2:], strict=True) if words[0] == "–"}
        marks = {c: f"– {catalogue._mark(reason)}" for (f, c), reason in exceptions().items() if f == entry.family}
        assert empty == marks, entry.name
    assert written(text, []) == text  # reasons and order are those of the lists


def test_notes_stand_below_the_table_under_their_letters():
    noted = [entry for entry in entries() if entry.note]
    assert {entry.family for entry in noted} >= {"ALIGN", "TimeSformer", "BigBird", "MobileViTv3"}
    inside = README.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    for entry in noted:
        letter = re.search(rf"`{entry.model}` \((\w)\) \|", inside)[1]
        assert f"({letter}) {entry.note}" in inside


def test_sizes_of_efficientnet_are_the_papers():
    with torch.device("meta"):
        sizes = [build(entry).input_size[1] for entry in entries(["EfficientNet"])]
    assert sizes == [224, 240, 260, 300, 380, 456, 528, 600]


def test_what_fails_is_told_and_the_command_ends_with_one(monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "exceptions", lambda: {("CBAM-ResNet", "gates"): "no reason"})
    assert cli.main(["summary", "--all", "--only", "CBAM-ResNet-18"]) == 1
    told = capsys.readouterr()
    assert "| yes, 128 px | failed | failed | 8 channel, 8 spatial | 4 × 4 at layer4 |" in told.out
    assert "CBAM-ResNet-18, attention: RuntimeError: attention needs operations with keys" in told.err
    assert "CBAM-ResNet-18, rollout: RuntimeError: rollout needs attention" in told.err
    assert "gates: it works (8 channel, 8 spatial), though it is listed as an exception: no reason" in told.err


def test_a_model_that_cannot_be_built_is_a_failure():
    row = look(catalogue.Entry("none", "none", "timm/resnet0", 0))
    assert set(row.cells.values()) == {"failed"}
    assert "timm/resnet0" in row.failures["loads"]


def test_rows_are_written_one_by_one_and_the_others_stay(tmp_path, monkeypatch):
    out = tmp_path / "table.md"
    out.write_text(f"before\n{BEGIN}\n{END}\nafter\n", "utf-8")
    first, second, third = entries()[:3]

    def run(*chosen: catalogue.Entry, word: str) -> str:
        monkeypatch.setattr(catalogue, "look", lambda entry: catalogue.Row(entry, dict.fromkeys(CELLS, word)))
        assert check([entry.name for entry in chosen], out) == 0
        return out.read_text("utf-8")

    run(third, first, word="old")
    text = run(second, third, word="new")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    order = [text.index(line(catalogue.Row(e, dict.fromkeys(CELLS, w)))) for e, w in ((first, "old"), (second, "new"))]
    assert order == sorted(order)
    assert "old" not in text.partition(second.name)[2]
    out.write_text("no place", "utf-8")
    with pytest.raises(ValueError, match="place for the table"):
        check([first.name], out)


@pytest.mark.parametrize("words", ["summary", "summary --all zoo/vit", "summary --all --only nothing"])
def test_a_mistake_ends_with_two(words, capsys):
    assert cli.main(words.split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_weights_that_say_nothing_are_drawn_and_the_norms_fit_the_input():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5)).eval()
    nn.init.zeros_(module[3].weight)
    before = module[0].weight.clone()
    x = 5 + torch.randn(64, 3, 8, 8)
    enliven(module, x)
    assert torch.equal(module[0].weight, before)
    assert module[3].weight.std() > 0
    torch.testing.assert_close(module[1].running_mean, module[0](x).mean((0, 2, 3)), atol=1e-4, rtol=1e-4)
    assert not module[1].training
    assert module[1].momentum == 0.1


def test_sizes_and_weights_are_not_needed_to_count():
    entry = entries(["EfficientNet-B7"])[0]
    with torch.device("meta"):
        clf = build(entry)
    assert next(clf.module.parameters()).is_meta
    assert clf.input_size == (3, 600, 600)
