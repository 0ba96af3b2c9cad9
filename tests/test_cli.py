"""The command line as a user meets it: files, texts, exit codes."""

import subprocess
import sys

import matplotlib
import pytest
import tiny
from PIL import Image
from torchvision import transforms

from vizlib import cli
from vizlib.types import Classifier

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch):
    def load(name, **_options):
        module = {"zoo/vit": tiny.vit, "zoo/resnet": tiny.CNN}[name]()
        clf = tiny.classifier(module, name=name)
        steps = [transforms.Resize((32, 32)), transforms.ToTensor()]
        return Classifier(**vars(clf) | {"transform": transforms.Compose(steps)})

    monkeypatch.setattr("vizlib.models.load.load", load)
    monkeypatch.setattr("vizlib.explore.rows.load", load)


def test_help_needs_no_torch():
    code = "import sys; from vizlib.cli import main\ntry: main(['-h'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    for command in ("summary", "explain", "compare", "gates", "cost", "zoo", "train", "demo", "examples:"):
        assert command in done.stdout


def test_explain_writes_a_picture_per_model_photo_and_method(tmp_path, capsys):
    names = ["zoo/vit", "zoo/resnet", "coffee", "rocket"]
    assert cli.main(["explain", *names, "--method", "gradcam,saliency", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list(tmp_path.glob("*.png"))) == 8
    assert "rocket · zoo/vit · gradcam" in "\n".join(lines)
    assert Image.open(tmp_path / "coffee_zoo_vit_gradcam.png").width > 300


def test_explain_takes_target_layer_and_a_file_name(tmp_path, capsys):
    out = tmp_path / "one.png"
    code = cli.main(["explain", "zoo/resnet", "cat", "--target", "4", "--layer", "stem", "--out", str(out)])
    assert code == 0
    assert out.is_file()
    assert "stem · tea · logit" in capsys.readouterr().out


def test_compare_writes_the_page_and_prints_the_table(tmp_path, capsys):
    out = tmp_path / "x.html"
    assert cli.main(["compare", "zoo/vit", "zoo/resnet", "coffee", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert out.read_text().count("data-cell=") == 3
    assert "gradcam peak" in printed
    assert str(out) in printed


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
