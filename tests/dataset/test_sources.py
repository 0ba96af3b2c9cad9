"""Labelled photographs from everywhere, and the labels as classes of a model."""

import numpy as np
import pandas as pd
import pytest
import torch
from rendered import LABELS, classifier
from torch.utils.data import Dataset

import vizlib as vl
from vizlib.dataset.labels import classes_of
from vizlib.dataset.sources import source_of

MADE = vl.data.shortcuts(6, size=32)


class Pairs(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return MADE.save(tmp_path_factory.mktemp("photos"))


def lines(table):
    return table[["label", "prediction", "confidence"]].reset_index(drop=True)


def test_folder_table_address_and_data_set_give_the_same_table(folder, tmp_path):
    """Six ways to the same photographs."""
    clf = classifier()
    whole = vl.dataset.predict(clf, folder, out=tmp_path / "folder")
    names = ["/".join(p.split("/")[-2:]) for p in whole["path"]]
    table = pd.DataFrame({"path": [str(folder / n) for n in names], "label": whole["label"]})
    table.assign(path=names).to_csv(folder / "photos.csv", index=False)  # paths beside the file
    table.to_parquet(tmp_path / "photos.parquet")
    order = [next(i for i in range(6) if MADE.name(i) == n) for n in names]
    pictures = Pairs([(MADE.images[i], int(MADE.labels[i])) for i in order])
    inputs = Pairs([(clf.prepare(MADE.images[i])[0], int(MADE.labels[i])) for i in order])
    for number, data in enumerate((folder / "photos.csv", tmp_path / "photos.parquet", table, pictures, inputs)):
        found = vl.dataset.predict(clf, data, out=tmp_path / str(number))
        pd.testing.assert_frame_equal(lines(found), lines(whole), check_exact=True)


def test_an_address_is_read_through_fsspec(folder, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for path in folder.glob("*/*.png"):
        system.pipe(f"/photos/{path.parent.name}/{path.name}", path.read_bytes())
    system.pipe("/photos/README.md", b"no photograph")
    clf = classifier()
    there = vl.dataset.predict(clf, "memory://photos", out=tmp_path / "there")
    here = vl.dataset.predict(clf, folder, out=tmp_path / "here")
    pd.testing.assert_frame_equal(lines(there), lines(here), check_exact=True)
    assert there["path"].str.startswith("memory://").all()


def test_an_hf_split(folder, tmp_path):
    """By its own interface: features that name image and label, rows that hold them."""

    class ClassLabel:
        names = LABELS[:4]

    class Image: ...

    class Split(Pairs):
        features = {"picture": Image(), "kind": ClassLabel()}  # noqa: RUF012
        column_names = ("picture", "kind")

        def __getitem__(self, at):
            return (
                [kind for _, kind in self.items]
                if at == "kind"
                else dict(zip(self.features, self.items[at], strict=True))
            )

    split = Split([(MADE.images[i], int(MADE.labels[i])) for i in range(6)])
    table = vl.dataset.predict(classifier(), split, out=tmp_path)
    assert table["label"].tolist() == [MADE.classes[k] for k in MADE.labels]


def test_a_split_of_the_datasets_package(folder, tmp_path):
    """What `load_dataset` gives: pictures decoded when they are taken, class names in the features."""
    datasets = pytest.importorskip("datasets", reason="needs a split: pip install datasets")
    paths = sorted(map(str, folder.glob("*/*.png")))
    kinds = [MADE.classes.index(path.split("/")[-2]) for path in paths]
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(MADE.classes)))
    split = datasets.Dataset.from_dict({"image": paths, "label": kinds}, features=features)
    clf = classifier()
    table = vl.dataset.predict(clf, split, out=tmp_path / "split")
    pd.testing.assert_frame_equal(lines(table), lines(vl.dataset.predict(clf, folder, out=tmp_path / "folder")))
    maps = vl.dataset.explain(clf, table.head(2), data=split)["gradcam"]
    assert len(maps.read()) == 2
    with pytest.raises(ValueError, match=r"a split with an image and a label is needed; got 6 rows of label"):
        vl.dataset.predict(clf, split.remove_columns("image"), out=tmp_path / "bare")


def test_labels_are_mapped_by_name(tmp_path):
    def asked(names, labels=None, clf=None, count=5):
        table = pd.DataFrame({"path": [f"{i}.png" for i in range(len(names))], "label": names})
        clf = clf or vl.load(
            torch.nn.Flatten(), input_size=(3, 2, 2), labels=["Tabby_cat", "star fish", "dog, hound", "x", "y"]
        )
        source = source_of(table)
        return dict(zip(source.classes, classes_of(clf, source, count, labels).tolist(), strict=True))

    assert asked(["tabby cat", "star-fish", "hound", "X"]) == {"tabby cat": 0, "star-fish": 1, "hound": 2, "X": 3}
    assert asked(["cat", "y"], {"cat": "Tabby_cat"}) == {"cat": 0, "y": 4}
    assert asked([3, 1]) == {"0": 0, "1": 1, "2": 2, "3": 3}  # class numbers
    imagenet = vl.load("timm/resnet18", pretrained=False)
    assert asked(["n01440764", "n02123045"], clf=imagenet, count=1000) == {"n01440764": 0, "n02123045": 281}
    for names, labels, told in (
        (["tabby cat", "lemur"], None, "no class for 1 of the 2 labels in the data: lemur.*Pass labels="),
        (["y"], {"z": 1}, "names that the data have; got z"),
        (["y"], {"y": 9}, "a class index from 0 to 4"),
        ([7], None, "class numbers below 5"),
    ):
        with pytest.raises(ValueError, match=told):
            asked(names, labels)
    with pytest.raises(ValueError, match="label names are needed to tell which class 'y' is"):
        asked(["y"], clf=vl.load(torch.nn.Flatten(), input_size=(3, 2, 2)))


def test_one_class_is_enough(tmp_path):
    made = vl.data.shortcuts(1, size=32).save(tmp_path / "one")
    table = vl.dataset.predict(classifier(), made, out=tmp_path / "out")
    found = vl.dataset.mistakes(table)
    assert found.summary["photos"].tolist() == [1]
    assert found.notes["label_errors"] == "photographs of two classes are needed"


def test_what_is_no_set_of_labelled_photographs_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(b"")
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    (tmp_path / "gaps.csv").write_text("path,label\na,\n")
    (tmp_path / "twice.csv").write_text("path,label\na,cat\nb,cat\na,dog\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for data, told in (
        ("nowhere", "no such folder"),
        ("empty", "found 0 folders and no file"),
        ("flat", "folder per class are needed; found 0 folders"),
        ("wrong.csv", "columns 'path' and 'label' is needed; got 1 rows of a, b"),
        ("gaps.csv", "row 0 lacks one"),
        ("twice.csv", "a stands in rows 0 and 2, as cat and dog"),
        ("broken.parquet", "a table of path and label is needed"),
    ):
        with pytest.raises(ValueError, match=told):
            source_of(tmp_path / data)
    with pytest.raises(ValueError, match="the data set is empty"):
        source_of(Pairs([]))
    with pytest.raises(ValueError, match=r"labels from 0 to classes - 1 are needed; got -1"):
        source_of(Pairs([(np.zeros((2, 2)), -1)]))
    for data in (Pairs([1]), 5):
        with pytest.raises(TypeError, match="needed"):
            source_of(data)
