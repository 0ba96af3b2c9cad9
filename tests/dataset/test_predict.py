"""Predictions: the numbers, what a run survives, what it refuses."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from rendered import LABELS, classifier
from torch.nn.functional import cross_entropy

import vizlib as vl
from vizlib.dataset import jobs, local
from vizlib.dataset.predicting import aligned
from vizlib.dataset.results import Results, results_of

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return vl.data.shortcuts(24, split="test", size=32).save(tmp_path_factory.mktemp("photos"))


def test_numbers_are_those_of_single_photographs_by_hand(photos, tmp_path):
    clf = classifier()
    table = vl.dataset.predict(clf, photos, out=tmp_path, batch=5)
    assert table["row"].tolist() == list(range(24))
    assert table["path"].is_monotonic_increasing
    for line in table.iloc[::7].itertuples():
        logits = clf(line.path)[0].double()
        share = logits.softmax(0)
        order = share.argsort(descending=True)
        assert line.label == Path(line.path).parent.name
        assert list(line.top5) == [LABELS[i] for i in order]
        assert line.prediction == LABELS[order[0]]
        assert line.correct == (line.prediction == line.label)
        assert line.confidence == pytest.approx(float(share[order[0]]), abs=1e-5)
        assert line.margin == pytest.approx(float(share[order[0]] - share[order[1]]), abs=1e-5)
        assert line.entropy == pytest.approx(float(-(share * share.log()).sum()), abs=1e-5)
        label = torch.tensor(LABELS.index(line.label))
        assert line.loss == pytest.approx(float(cross_entropy(logits, label)), abs=1e-5)
    features = results_of(table).arrays("features", [3, 0])
    clf.module.body.register_forward_hook(lambda m, i, o: seen.append(o))
    seen = []
    clf(list(table["path"].iloc[[3, 0]]))
    by_hand = seen[0].mean((2, 3))
    np.testing.assert_allclose(features, by_hand / by_hand.norm(dim=1, keepdim=True), atol=2e-3)


def test_the_model_is_left_as_it_was(photos, tmp_path):
    clf = classifier()
    clf.module.train()
    before = {k: v.clone() for k, v in clf.module.state_dict().items()}
    vl.dataset.predict(clf, photos, out=tmp_path, methods="gradcam")
    assert clf.module.training
    assert all(torch.equal(v, before[k]) for k, v in clf.module.state_dict().items())
    assert not any(m._forward_hooks for m in clf.module.modules())
    assert all(p.grad is None for p in clf.module.parameters())


_KILLED = """
import sys, time
sys.path.append(sys.argv[3])
from rendered import classifier
from vizlib.dataset import jobs, local, predict

load, local.PART_ROWS = jobs.Job.load, 8
jobs.Job.load = lambda job, row: time.sleep(0.1) or load(job, row)
predict(classifier(), sys.argv[1], out=sys.argv[2], batch=4, workers=0)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_run_goes_on_with_nothing_lost_and_nothing_doubled(photos, tmp_path, monkeypatch):
    command = [sys.executable, "-c", _KILLED, str(photos), str(tmp_path / "killed"), str(TESTS)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    results, limit = Results(tmp_path / "killed"), time.monotonic() + 120
    while not results.parts() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    there = {part: part.read_bytes() for part in results.parts()}
    done = sum(pq.read_metadata(part).num_rows for part in there)
    assert 8 <= done < 24
    asked = []
    read = jobs.Job.load
    monkeypatch.setattr(jobs.Job, "load", lambda job, row: asked.append(row) or read(job, row))
    (results.folder / "rows-000000099-000000100.parquet.part").write_bytes(b"cut short")  # as a kill in a write leaves
    table = vl.dataset.predict(classifier(), photos, out=tmp_path / "killed", batch=4, workers=0)
    assert len(asked) == 24 - done  # nothing is done twice
    assert {part: part.read_bytes() for part in there} == there
    assert not list(results.folder.glob("*.part"))
    whole = vl.dataset.predict(classifier(), photos, out=tmp_path / "whole", batch=4, workers=0)
    pd.testing.assert_frame_equal(table, whole, check_exact=True)


def test_rows_that_are_left_keep_the_batches_of_an_uninterrupted_run():
    done = np.zeros(10, bool)
    assert aligned(done, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    done[:4] = done[5] = True
    assert aligned(done, 4) == [[4, 6, 7], [8, 9]]


def test_maps_of_the_same_run_are_those_of_explain(photos, tmp_path):
    clf = classifier()
    table = vl.dataset.predict(clf, photos, out=tmp_path, methods="gradcam", batch=6)
    plain = vl.dataset.predict(clf, photos, out=tmp_path / "plain", batch=6)
    pd.testing.assert_frame_equal(table, plain, check_exact=False, rtol=1e-5)
    maps = vl.dataset.explain(clf, table, "gradcam")["gradcam"]  # nothing is left to do
    alone = vl.explain(clf, list(table["path"]), "gradcam").values.numpy()
    np.testing.assert_allclose(maps.read(), alone, atol=1e-3 * np.abs(alone).max())


def test_maps_that_were_written_before_their_predictions_are_not_doubled(photos, tmp_path, monkeypatch):
    """A kill between the two writes: the rows count as not done, and their maps stand there already."""
    write = Results.add

    def killed(place, rows):
        if place.folder == tmp_path / "cut":
            raise KeyboardInterrupt
        write(place, rows)

    monkeypatch.setattr(local, "PART_ROWS", 8)
    monkeypatch.setattr(Results, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        vl.dataset.predict(classifier(), photos, out=tmp_path / "cut", methods="gradcam", batch=4, workers=0)
    monkeypatch.setattr(Results, "add", write)
    monkeypatch.setattr(local, "PART_ROWS", 12)  # the parts are cut elsewhere now
    tables = [
        vl.dataset.predict(classifier(), photos, out=tmp_path / name, methods="gradcam", batch=4, workers=0)
        for name in ("cut", "whole")
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    cut, whole = (vl.dataset.explain(classifier(), table)["gradcam"] for table in tables)
    assert cut.rows.tolist() == whole.rows.tolist() == list(range(24))
    np.testing.assert_array_equal(cut.read(), whole.read())


def test_memory_that_does_not_suffice_halves_the_batch(photos, tmp_path):
    clf, seen = classifier(), []

    class Scarce(torch.nn.Module):
        def forward(self, x):
            seen.append(len(x))
            if len(x) > 3:
                raise torch.OutOfMemoryError("more than there is")
            return clf.module(x)

    scarce = classifier(module=Scarce())
    table = vl.dataset.predict(scarce, photos, out=tmp_path, batch=12, workers=0)
    assert len(table) == 24
    assert seen.count(12) == 1  # it stays halved
    assert max(seen[seen.index(12) + 1 :]) <= 6

    class Never(torch.nn.Module):
        def forward(self, x):
            if x.abs().sum():
                raise torch.OutOfMemoryError("none")
            return x.new_zeros(len(x), 5)

    with pytest.raises(RuntimeError, match=r"memory for one photograph of \(3, 32, 32\) is needed"):
        vl.dataset.predict(classifier(module=Never()), photos, out=tmp_path / "none")


def test_unreadable_files_are_listed_and_do_not_stop_the_run(photos, tmp_path):
    folder = vl.data.shortcuts(4, size=32).save(tmp_path / "some")
    (folder / "disc" / "notes.txt").write_text("no image")
    (folder / "disc" / "whole.png").write_bytes((folder / "disc" / "00000.png").read_bytes()[:200])
    (folder / "disc" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "disc" / "round").symlink_to(folder, target_is_directory=True)  # a loop
    table = vl.dataset.predict(classifier(), folder, out=tmp_path / "out", methods="gradcam")
    assert len(table) == 4
    reasons = {Path(path).name: why for path, why in table.attrs["unreadable"].items()}
    assert set(reasons) == {"notes.txt", "whole.png", "gone.png"}
    assert "an image file is needed" in reasons["notes.txt"]
    assert "whole image" in reasons["whole.png"]
    assert len(pd.read_csv(tmp_path / "out" / "unreadable.csv")) == 3


def test_numbers_that_are_no_numbers_are_listed(photos, tmp_path):
    class Broken(torch.nn.Module):
        def forward(self, x):
            return x.new_full((len(x), 5), torch.nan)

    with pytest.raises(ValueError, match=r"no photograph that has one: .* not finite"):
        vl.dataset.predict(classifier(module=Broken()), photos, out=tmp_path)


def test_results_of_something_else_are_not_mixed(photos, tmp_path):
    first = vl.dataset.predict(classifier(), photos, out=tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.glob("rows-*")}
    with pytest.raises(ValueError, match=r"weights was .* and is .* Name another folder"):
        vl.dataset.predict(classifier(seed=2), photos, out=tmp_path)
    with pytest.raises(ValueError, match="Name another folder"):
        vl.dataset.predict(classifier(), photos, out=tmp_path, labels={"disc": "star"})
    assert {p: p.read_bytes() for p in tmp_path.glob("rows-*")} == before
    pd.testing.assert_frame_equal(vl.dataset.read(tmp_path), first)


def test_a_full_disk_is_told_and_what_was_done_stays(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "PART_ROWS", 8)
    write, count = Results.add.__globals__["write_whole"], []

    def full(path, content):
        count.append(path)
        if len(count) > 2:  # run.json and one part
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setitem(Results.add.__globals__, "write_whole", full)
    with pytest.raises(RuntimeError, match=r"MiB of results is needed; No space left on device.*run the same again"):
        vl.dataset.predict(classifier(), photos, out=tmp_path, batch=4, workers=0)
    assert len(vl.dataset.read(tmp_path)) == 8
    monkeypatch.setitem(Results.add.__globals__, "write_whole", write)
    assert len(vl.dataset.predict(classifier(), photos, out=tmp_path, batch=4, workers=0)) == 24


def test_a_folder_that_cannot_be_written_is_told(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="a folder that can be written is needed"):
        vl.dataset.predict(classifier(), photos, out=tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batch": 0}, "at least 1 photograph"),
        ({"backend": "spark"}, "'local' or 'ray'"),
        ({"methods": "gradcm"}, "Near"),
    ],
)
def test_wrong_options_are_told(photos, tmp_path, wrong, told):
    with pytest.raises(ValueError, match=told):
        vl.dataset.predict(classifier(), photos, out=tmp_path, **wrong)
