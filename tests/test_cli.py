"""The command line as a user meets it: files, texts, exit codes."""

import io
import os
import shlex
import subprocess
import sys

import matplotlib
import pandas
import pytest
import tiny
import torch
from PIL import Image
from torchvision import transforms

from vizlib import cli
from vizlib.commands import options, outputs
from vizlib.methods.table import METHODS, contrast, explain
from vizlib.models import zoo
from vizlib.models.architectures.registry import architectures
from vizlib.models.sources import SOURCES
from vizlib.types import Classifier

matplotlib.use("Agg")


def tiny_load(name, **_options):
    torch.manual_seed(0)
    module = {"zoo/vit": tiny.vit, "zoo/resnet": tiny.CNN}[name]()
    clf = tiny.classifier(module, name=name)
    steps = [transforms.Resize((32, 32)), transforms.ToTensor()]
    return Classifier(**vars(clf) | {"transform": transforms.Compose(steps)})


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch):
    monkeypatch.setattr("vizlib.models.load.load", tiny_load)


def test_help_needs_no_torch():
    heavy = "{'torch', 'numpy', 'pandas', 'matplotlib', 'PIL', 'tqdm'} & set(sys.modules)"
    code = f"import sys; from vizlib.cli import main\ntry: main(['-h'])\nfinally: print({heavy} or 'nothing')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("nothing\n")
    for command in ("summary", "explain", "compare", "gates", "cost", "zoo", "train", "demo", "examples:"):
        assert command in done.stdout


@pytest.mark.parametrize("command", cli.COMMANDS, ids=cli._name)
def test_every_example_can_be_typed(command):
    lines = cli._examples(command)
    assert lines
    for line in lines:
        words = shlex.split(line)[1:]
        assert cli.parser().parse_args(words).run is command.run
        assert {word for word in words if word.startswith("arch/")} <= {f"arch/{name}" for name in architectures()}
        assert {word for word in words if word.startswith("zoo/")} <= {f"zoo/{name}" for name in zoo.trained()}


def test_what_help_names_is_there(capsys):
    with pytest.raises(SystemExit):
        cli.main(["explain", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert all(name in told for name in METHODS)
    assert {f"{name}/" for name in SOURCES} == set(options.SOURCES)
    known = {option for method in METHODS.values() for option in method.options}
    assert set(options.METHOD_OPTIONS) <= known


def test_python_runs_the_package():
    done = subprocess.run([sys.executable, "-m", "vizlib", "explain", "cat"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_explain_writes_a_picture_per_model_photo_and_method(tmp_path, capsys):
    names = ["zoo/vit", "zoo/resnet", "coffee", "rocket"]
    assert cli.main(["explain", *names, "--method", "gradcam,saliency", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(tmp_path.glob("*.png"))) == 8
    assert any(line.startswith("rocket · zoo/vit · gradcam") for line in lines)
    assert all("not among the model's classes" in line for line in lines)  # wherever such a photograph appears
    assert Image.open(tmp_path / "coffee_zoo_vit_gradcam.png").width > 300


def test_explain_takes_target_layer_and_a_file_name(tmp_path, capsys):
    out = tmp_path / "one.png"
    code = cli.main(["explain", "zoo/resnet", "cat", "--target", "4", "--layer", "stem", "--out", str(out)])
    assert code == 0
    assert out.is_file()
    assert "stem · tea · logit" in capsys.readouterr().out


def test_a_method_that_does_not_apply_leaves_the_others(tmp_path, capsys):
    names = ["zoo/vit", "zoo/resnet", "cat", "coffee"]
    assert cli.main(["explain", *names, "--method", "rollout", "gradcam", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert len(list(tmp_path.glob("*.png"))) == len(told.out.splitlines()) == 6
    assert told.err.startswith("vizlib: zoo/resnet, rollout: rollout needs attention")
    assert told.err.count("\n") == 1  # once, and not for each photograph


def seen(monkeypatch):
    """The heatmaps that are drawn, with what they are drawn with."""
    found = []

    def overlay(heatmap, _photo=0, _ax=None, **drawn):
        found.append((heatmap, drawn))
        return matplotlib.pyplot.subplots()[1]

    monkeypatch.setattr("vizlib.show.plot.overlay", overlay)
    return found


def test_a_contrast_is_that_of_the_library_and_drawn_round_zero(tmp_path, monkeypatch, capsys):
    drawn = seen(monkeypatch)
    order = ["explain", "zoo/vit", "cat", "--target", "coffee", "--against", "4", "--out", str(tmp_path)]
    assert cli.main(order) == 0
    (heatmap, options_of_drawing), clf = drawn[0], tiny_load("zoo/vit")
    expected = contrast(clf, "cat", "gradcam", "coffee", 4)
    torch.testing.assert_close(heatmap.values, expected.values)
    assert options_of_drawing["signed"] is True
    assert "coffee − tea" in capsys.readouterr().out


def test_options_of_methods_are_handed_on_by_name(tmp_path, monkeypatch):
    drawn = seen(monkeypatch)
    common = ["explain", "zoo/vit", "cat", "--out", str(tmp_path), "--method"]
    asked = [
        (["attention"], {}),
        (
            ["attention", "--head", "1", "--query", "0.4,0.9", "--layer", "blocks.0.attn"],
            {"head": 1, "query": (0.4, 0.9)},
        ),
        (["rollout", "--fusion", "max", "--discard", "0.5"], {"fusion": "max", "discard": 0.5}),
        (["integrated_gradients", "--option", "steps=2"], {"steps": 2}),
        (["rollout", "--option", "start=mean"], {"start": "mean"}),
    ]
    for words, _ in asked:
        assert cli.main([*common, *words]) == 0
    clf = tiny_load("zoo/vit")
    for (words, given), (heatmap, drawing) in zip(asked, drawn, strict=True):
        layer = {"layer": "blocks.0.attn"} if "--layer" in words else {}
        expected = explain(clf, "cat", words[0], **layer, **given).values
        torch.testing.assert_close(heatmap.values, expected)
        assert all(f"{name} {value}" in drawing["title"] for name, value in given.items())


def test_how_models_are_loaded(tmp_path, monkeypatch):
    asked = {}

    def load(source, **options):
        asked[source] = options
        return tiny_load("zoo/vit")

    monkeypatch.setattr("vizlib.models.load.load", load)
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"")
    common = ["explain", "zoo/vit", "cat", "--out", str(tmp_path), "--device", "cpu"]
    assert cli.main([*common, "--weights", str(weights), "--dtype", "bfloat16", "--input-size", "48x64"]) == 0
    expected = {"weights": str(weights), "device": "cpu", "dtype": "bfloat16", "input_size": (3, 48, 64)}
    assert asked["zoo/vit"] == expected
    assert cli.main([*common, "--random"]) == 0
    assert asked["zoo/vit"]["pretrained"] is False
    assert asked["zoo/vit"]["name"] == "zoo/vit, random weights"


def test_a_size_that_a_model_does_not_take(tmp_path, monkeypatch, capsys):
    def load(source, input_size=None, **_options):
        clf = tiny_load(source)
        return Classifier(**vars(clf) | {"input_size": input_size})

    monkeypatch.setattr("vizlib.models.load.load", load)
    asked = ["cat", "--out", str(tmp_path / "x.png"), "--input-size", "48"]
    assert cli.main(["explain", "zoo/vit", *asked]) == 2
    told = capsys.readouterr().err
    assert told.startswith("vizlib: zoo/vit does not take images of 48 x 48 pixels: Input height (48) doesn't match")
    assert told.count("\n") == 1
    assert cli.main(["explain", "zoo/resnet", *asked]) == 0


def test_compare_writes_the_page_and_prints_the_table(tmp_path, capsys):
    out = tmp_path / "x.html"
    assert cli.main(["compare", "zoo/vit", "zoo/resnet", "coffee", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert out.read_text().count("data-cell=") == 3
    assert "gradcam peak" in printed
    assert str(out) in printed


def test_trust_is_a_switch_of_compare(tmp_path, capsys):
    order = ["compare", "zoo/vit", "coffee", "--method", "gradcam", "--out"]
    assert cli.main([*order, str(tmp_path / "x.html"), "--trust"]) == 0
    assert "gradcam insertion" in capsys.readouterr().out
    assert "8 × 8 squares" in (tmp_path / "x.html").read_text()
    assert cli.main([*order, str(tmp_path / "y.html")]) == 0
    assert "gradcam insertion" not in capsys.readouterr().out
    assert "8 × 8 squares" not in (tmp_path / "y.html").read_text()


def test_compress_prints_the_table_and_writes_it_or_the_maps(tmp_path, capsys):
    order = ["compress", "zoo/vit", "--way", "float16", "60 % of weights pruned", "--rounds", "1", "--device", "cpu"]
    assert cli.main([*order, "--out", str(tmp_path / "x.csv")]) == 0
    assert pandas.read_csv(tmp_path / "x.csv")["way"].tolist() == ["as it is", *order[3:5]]
    assert "gradcam_rank" in capsys.readouterr().out
    assert cli.main(["compress", "zoo/vit", "--way", "float17"]) == 2
    assert "Take one of: float16; bfloat16" in capsys.readouterr().err


def test_summary_prints(capsys):
    assert cli.main(["summary", "zoo/vit"]) == 0
    assert "blocks.0.attn" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "zoo/vit"], "photograph is needed"),
        (["explain", "cat"], "model"),
        (["explain", "zoo/vit", "catt"], "catt: no such file"),
        (["explain", "zoo/vit", "cat", "--method", "gradcm"], "Near ones: gradcam"),
        (["explain", "zoo/vit", "cat", "--target", "teo"], "'tea'"),
        (["explain", "zoo/resnet", "cat", "--method", "rollout"], "rollout needs attention"),
        (["explain", "zoo/vit", "cat", "coffee", "--out", "x.png"], "Name a folder"),
        (["explain", "zoo/vit", "cat", "--against", "coffee", "--method", "rollout"], "rollout is class-blind"),
        (["explain", "zoo/vit", "cat", "--discard", "0.5"], "got 'discard'. They accept: gradcam: none"),
        (["gates", "zoo/vit", "cat"], "zoo/vit has none"),
        (["zoo", "show", "alexnet"], "alexnet"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("vizlib: ")
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "zoo/vit"], "photograph is needed"),
        (["explain", "zoo/vit", "catt"], "catt: no such file"),
        (["explain", "zoo/vitt", "cat"], "Name one of: zoo/vit"),
        (["explain", "zoo/vit", "cat", "--method", "gradcam", "gradcm"], "Near ones: gradcam"),
        (["explain", "zoo/vit", "cat", "--out", "x.gif"], "ends in .png, .pdf or .svg is needed; got 'x.gif'"),
        (["explain", "zoo/vit", "cat", "--out", "file/x.png"], "file is no folder"),
        (["explain", "zoo/vit", "cat", "--weights", "none.pt"], "got 'none.pt', which is none"),
        (["explain", "zoo/vit", "zoo/resnet", "cat", "--weights", "file"], "belongs to one model"),
        (["compare", "zoo/vit", "cat", "--out", "x.txt"], "ends in .html"),
        (["gates", "zoo/vit", "cat", "coffee", "--out", "x.png"], "2 pictures need a folder"),
        (["kept", "zoo/vit", "cat", "--out", "x.html"], "ends in .png"),
        (["tradeoff", "zoo", "--out", "x"], "ends in .html"),
        (["compress", "zoo/vit", "--out", "x.html"], "ends in .png"),
        (["compress", "zoo/vit", "--photo", "dog"], "got 'dog'"),
        (["evaluate", "zoo/vit", "nowhere"], "nowhere is not there"),
        (["debug", "zoo/vit", "nowhere"], "nowhere is not there"),
        (["debug", "zoo/vit", ".", "--method", "gradcm"], "Near ones: gradcam"),
        (["debug", "zoo/vit", ".", "--out", "x.png"], "ends in .html"),
        (["demo", "--out", "file"], "file is no folder"),
    ],
)
def test_what_can_be_seen_without_torch_is_told_before_it_is_imported(
    arguments, message, capsys, tmp_path, monkeypatch
):
    """Every import of the room's heavy neighbours fails here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for name in ("torch", "vizlib.methods.table", "vizlib.models.load", "vizlib.explore.compare", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert os.listdir(tmp_path) == ["file"]


def test_methods_swallow_no_model(capsys):
    with pytest.raises(SystemExit):
        cli.main(["explain", "--method", "gradcam", "zoo/vit", "cat"])
    assert "name zoo/vit and the photographs before it" in capsys.readouterr().err


def test_methods_apart_by_spaces_commas_or_options():
    read = cli.parser().parse_args
    for words in ("--method a b", "--method a,b", "--method a --method b", "--method a,b a"):
        assert read(["explain", "zoo/vit", "cat", *words.split()]).method == ("a", "b")
    assert read(["explain", "zoo/vit", "cat"]).method == ("gradcam",)


@pytest.mark.parametrize(
    ("text", "value"), [("class", 0), ("2", 2), ("mean", "mean"), ("0.4,0.6", (0.4, 0.6)), ("1,0", (1.0, 0.0))]
)
def test_queries(text, value):
    assert options.query(text) == value


@pytest.mark.parametrize(
    "words", ["--query here", "--input-size 0", "--input-size 1x2x3", "--option steps", "--head a"]
)
def test_values_that_cannot_be_read(words, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["explain", "zoo/vit", "cat", *words.split()])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_mistake_of_training_is_one_line_too(tmp_path, capsys):
    assert cli.main(["train", "vit", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_bar_on_a_terminal_after_a_second_and_nowhere_else(monkeypatch):
    """A clock of our own: nothing waits."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def drawn(file, seconds):
        clock = iter(range(0, 1000, seconds)) if seconds else iter([0] * 1000)
        monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
        monkeypatch.setattr("sys.stderr", file)
        assert list(outputs.progress([1, 2, 3], "explain")) == [1, 2, 3]
        return file.getvalue()

    assert "explain" in drawn(Terminal(), 2)
    assert drawn(Terminal(), 0).strip() == ""
    assert drawn(io.StringIO(), 2) == ""


@pytest.mark.parametrize("arguments", [[], ["explain"], ["paint"], ["cost", "zoo/vit", "--batch", "many"]])
def test_a_wrong_command_line_is_one_line_and_exit_code_two(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_traceback_can_be_asked_for():
    with pytest.raises(ValueError, match="catt"):
        cli.main(["--traceback", "explain", "zoo/vit", "catt"])


def test_evaluate_prints_shares_in_percent_and_their_intervals(tmp_path, capsys):
    clf, grey = tiny.classifier(tiny.vit()), Image.new("RGB", (32, 32), (90, 60, 30))
    said = clf.label(int(clf(transforms.ToTensor()(grey)[None]).argmax()))
    other = next(label for label in tiny.LABELS if label != said)
    for label in (said, other):  # the same picture twice: the network is right once
        (tmp_path / label).mkdir()
        grey.save(tmp_path / label / "photo.png")
    assert cli.main(["evaluate", "zoo/vit", str(tmp_path), "--device", "cpu"]) == 0
    found = " ".join(capsys.readouterr().out.split())
    assert "2 photographs" in found
    assert "top-1 50.0 % 95 % interval 9.5 – 90.5 %" in found
