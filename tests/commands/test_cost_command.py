"""`vizlib cost`: one model, several in turns, modules, published figures, and mistakes."""

from __future__ import annotations

import pytest
import tiny

from vizlib import cli


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {"zoo/vit": tiny.classifier(tiny.vit()), "zoo/resnet": tiny.classifier(tiny.CNN())}
    monkeypatch.setattr("vizlib.commands.cost.loaded", lambda names, ways: {name: made[name] for name in names})


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert cli.main(["cost", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_one_model_has_the_spread_of_its_latency(capsys: pytest.CaptureFixture[str]) -> None:
    head, row = lines(capsys, "zoo/vit")
    assert "latency ms (p10, median, p90)" in head
    assert row.split()[0] == "zoo/vit"


def test_several_run_in_turns_and_the_first_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    head, first, second = lines(capsys, "zoo/vit", "zoo/resnet")
    assert "times the first (p10, p90)" in head
    assert "1.00 (1.00, 1.00)" in first
    assert "1.00 (1.00, 1.00)" not in second


def test_modules_down_to_a_depth(capsys: pytest.CaptureFixture[str]) -> None:
    shallow = lines(capsys, "zoo/vit", "--modules", "--depth", "1")
    deep = lines(capsys, "zoo/vit", "--modules", "--depth", "3")
    assert shallow[3:5] == ["zoo/vit", shallow[4]]
    assert "attention_share" in shallow[4]
    assert shallow[5].split()[0] == "(all)"
    assert not any("blocks.0" in line for line in shallow)
    assert any(line.split()[:1] == ["blocks.0.attn"] for line in deep)


def test_published_figures_need_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    table = lines(capsys, "--published")
    assert len(table) == 1 + 135
    assert table[0].split()[:4] == ["model", "px", "published", "counted"]


@pytest.mark.parametrize("arguments", [[], ["zoo/vit", "--published"], ["zoo/vit", "--batch", "0"]])
def test_mistakes_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cost", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
