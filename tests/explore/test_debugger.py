"""From the tables to one photograph: what the panel answers and what the report carries."""

import json
import re
from pathlib import Path

import pytest
from rendered import classifier

import vizlib as vl
from vizlib.cli import main


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("debug")
    photos = vl.data.shortcuts(24, size=32, mark="chance").save(place / "photos")
    (photos / "disc" / "00000.png").rename(photos / "disc" / "<b>&.png")
    models = {"a": classifier("a", 1), "</script><i>": classifier("b", 2)}
    return vl.debug(models, photos, out=place / "out")


def state_of(path):
    text = path.read_text("utf-8")
    return text, json.loads(re.search(r'id="vl-state">(.*?)</script>', text, re.S)[1])


def test_the_state_counts_what_the_tables_hold(found):
    state = found.state
    assert state["models"] == ["a", "</script><i>"]
    for m, name in enumerate(state["models"]):
        cells = state["confusion"][m]
        table = found.found.tables[name]
        assert sum(map(sum, cells["cells"])) == len(table) == len(state["photos"])
        right = sum(cells["cells"][i][cells["columns"].index(n)] for i, n in enumerate(cells["rows"]))
        assert right == table["correct"].sum()
        for photo, line in zip(state["photos"], table.itertuples(), strict=True):
            assert photo["answers"][m] == (line.prediction, pytest.approx(line.confidence, abs=1e-4))
    sure = next(entry for entry in state["lists"] if entry["title"] == "Sure and wrong")
    assert sure["items"][0] == found.table.index[found.table["path"] == found.found.confident["path"].iloc[0]][0]


def test_one_photograph_has_a_row_per_model_and_its_neighbours(found):
    number = int(found.table.index[~found.table["correct"]][0])
    detail = found.detail(number)
    wrong = [t.iloc[number]["correct"] for t in found.found.tables.values()].count(False)
    assert len(detail["state"]["cells"]) == 3 * wrong + (2 - wrong)  # prediction, label and difference; or one map
    assert detail["html"].count("data-thumb") == 6
    assert "</script><i>" not in detail["html"]
    assert detail["html"].count("wrong: ") == wrong
    near = found.near(number)
    assert number not in near.index


def test_neighbours_are_looked_for_in_the_training_photographs(found, tmp_path):
    """A copy of the photograph lies in another class there, and is found first."""
    folder = vl.data.shortcuts(12, seed=5, size=32).save(tmp_path / "training")
    number = 5
    photo = Path(found.table["path"].iloc[number])
    copy = folder / "star" / "copy.png"
    copy.write_bytes(photo.read_bytes())
    models, options = {"a": found.classifiers["a"]}, {"out": tmp_path / "out"}
    other = vl.debug(models, photo.parents[1], near=folder, **options)
    near = other.near(number)
    assert near["path"].iloc[0] == str(copy)
    assert near["similarity"].iloc[0] == pytest.approx(1, abs=1e-3)
    assert all(Path(path).is_relative_to(folder) for path in near["path"])
    assert other.thumbs([int(near.index[0])]) == {near.index[0]: other._thumb(number)}
    detail = other.detail(number)["html"]
    assert "among 13 others" in detail
    assert f'data-thumb="{near.index[0]}" alt="copy.png"' in detail
    _, state = state_of(other.save(tmp_path / "report.html", most=2))
    assert {str(place) for n in state["within"] for place in other.near(n).index} <= set(state["thumbs"])
    table = vl.dataset.read(tmp_path / "out" / "a near")
    again = vl.debug(models, photo.parents[1], near=table, **options)
    assert again.near(number)["path"].tolist() == near["path"].tolist()
    with pytest.raises(ValueError, match="near needs a table of b; got one of a"):
        vl.debug({"b": found.classifiers["</script><i>"]}, photo.parents[1], near=table, out=tmp_path / "b")


def test_the_panel_answers_what_the_browser_asks(found):
    panel, sent = found.show(), []
    panel.send = sent.append
    panel._answer(panel, {"number": 1, "want": "thumbs", "about": [2, 0]}, [])
    panel._answer(panel, {"number": 2, "want": "detail", "about": 2}, [])
    assert [message["number"] for message in sent] == [1, 2]
    assert list(sent[0]["found"]) == [2, 0]
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in sent[0]["found"].values())
    assert set(sent[1]["found"]) == {"html", "state"}
    json.dumps(panel.content)  # goes to the browser as it is


def test_a_photograph_that_is_gone_is_told(found, tmp_path):
    path = found.table["path"].iloc[3]
    panel, sent = found.show(), []
    panel.send = sent.append
    moved = tmp_path / "moved.png"
    Path(path).rename(moved)
    panel._answer(panel, {"number": 5, "want": "detail", "about": 3}, [])
    moved.rename(path)
    assert sent[0]["number"] == 5
    assert "no such file" in sent[0]["refused"]


def test_thumbnails_are_kept_and_not_without_end(found, monkeypatch):
    made = []
    monkeypatch.setattr(type(found), "_thumb", lambda _, number: made.append(number) or "data:")
    monkeypatch.setattr("vizlib.explore.debugger.KEPT", 3)
    found._thumbs.clear()
    found.thumbs([0, 1, 0])
    assert made == [0, 1]
    found.thumbs([2, 3])
    assert len(found._thumbs) == 3
    found._thumbs.clear()


def test_the_report_is_one_file_with_every_name_escaped(found, tmp_path):
    text, state = state_of(found.save(tmp_path / "report.html", most=5))
    assert len(state["details"]) == len(state["within"]) == len(state["pictures"]) == 5  # both models see the same
    assert {i for d in state["details"].values() for i in d["state"]["images"]} == set(range(5))
    assert {str(n) for n in state["within"]} <= set(state["thumbs"])
    assert not re.findall(r'(?:src|href)="(?!data:)|https?://|@import|url\(', text)
    assert text.count("</script>") == 2  # ours: no name ends one
    assert "<b>&.png" not in text
    with pytest.raises(ValueError, match=r"ends in \.html"):
        found.save(tmp_path / "report.pdf")


def test_a_class_blind_method_is_refused(tmp_path):
    with pytest.raises(ValueError, match="rollout is class-blind"):
        vl.debug(classifier(), tmp_path, method="rollout")


def test_training_photographs_and_other_names_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr("vizlib.models.load.load", lambda name, **_: classifier(name))
    photos, training = (vl.data.shortcuts(8, seed=s, size=32).save(tmp_path / f"photos{s}") for s in (0, 1))
    for folder in (photos, training):
        (folder / "disc").rename(folder / "ball")
    options = ["--out", str(tmp_path / "r.html"), "--results", str(tmp_path / "out"), "--near", str(training)]
    assert main(["debug", "zoo/vit", str(photos), *options]) == 2  # the model has no balls
    assert main(["debug", "zoo/vit", str(photos), *options, "--label", "ball=disc", "--label", "star=3"]) == 0
    assert "Nearest photographs among 8 others" in (tmp_path / "r.html").read_text("utf-8")
    with pytest.raises(SystemExit):
        main(["debug", "zoo/vit", str(photos), "--label", "ball"])


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vizlib.models.load.load", lambda name, **_: classifier(name))
    photos = vl.data.shortcuts(8, size=32).save(tmp_path / "photos")
    (photos / "disc" / "notes.txt").write_text("no image")
    options = ["--out", str(tmp_path / "r.html"), "--results", str(tmp_path / "out")]
    assert main(["debug", "zoo/vit", "zoo/resnet", str(photos), *options]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(tmp_path / "r.html")
    assert f"not read: {photos}/disc/notes.txt: an image file is needed" in told.err
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "notes.txt</td><td>an image file is needed" in page
    assert main(["debug", "zoo/vit", str(tmp_path / "none"), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
