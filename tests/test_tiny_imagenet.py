"""The photo set from a folder, a tar, the published zip, a download and no network."""

import csv
import io
import tarfile
import zipfile

import pytest
from PIL import Image

from vizlib import data, tiny_imagenet


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIZLIB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photo_set(tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"set/tiny20/{split}/goldfish").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / f"set/tiny20/{split}/goldfish/a.png")
    return tmp_path / "set"


@pytest.fixture
def published(tmp_path):
    """A tiny-imagenet-200.zip with one photo of each of our classes and of one more, in each split."""
    wnids = [*tiny_imagenet._classes(), "n00000001"]
    photo = io.BytesIO()
    Image.new("RGB", (4, 4)).save(photo, "JPEG")
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as file:
        top = "tiny-imagenet-200"
        file.writestr(f"{top}/wnids.txt", "\n".join(wnids))
        for wnid in wnids:
            file.writestr(f"{top}/train/{wnid}/{wnid}_boxes.txt", f"{wnid}_0.JPEG\t0\t10\t63\t58\n")
            file.writestr(f"{top}/train/{wnid}/images/{wnid}_0.JPEG", photo.getvalue())
        lines = [f"val_{i}.JPEG\t{wnid}\t1\t2\t3\t4" for i, wnid in enumerate(wnids)]
        file.writestr(f"{top}/val/val_annotations.txt", "\n".join(lines))
        for i in range(len(wnids)):
            file.writestr(f"{top}/val/images/val_{i}.JPEG", photo.getvalue())
    return tmp_path / "tiny-imagenet-200.zip"


def check_selection(folder):
    assert len(list((folder / "train").iterdir())) == 20
    with (folder / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    goldfish = next(row for row in rows if row["class"] == "goldfish")
    assert goldfish["file"] == "train/goldfish/n01443537_0.JPEG"
    assert goldfish["wnid"] == "n01443537"
    assert [goldfish[k] for k in ("xmin", "ymin", "xmax", "ymax")] == ["0", "10", "63", "58"]
    assert all((folder / row["file"]).is_file() for row in rows)


def test_photo_set_from_a_folder_and_the_environment(photo_set, monkeypatch):
    assert data.tiny_imagenet20(photo_set) == photo_set / "tiny20"
    monkeypatch.setenv("VIZLIB_DATA", str(photo_set / "tiny20"))
    assert data.tiny_imagenet20() == photo_set / "tiny20"


def test_photo_set_from_a_tar_is_unpacked_once(photo_set, tmp_path):
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as tar:
        tar.add(photo_set / "tiny20", "tiny20")
    folder = data.tiny_imagenet20(tmp_path / "set.tar.gz")
    assert (folder / "val/goldfish/a.png").is_file()
    (folder / "mark").touch()
    assert (data.tiny_imagenet20(tmp_path / "set.tar.gz") / "mark").is_file()
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("name", ["../outside", "/absolute/outside"])
def test_a_tar_that_leads_out_of_its_folder_is_refused(tmp_path, name):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name) if name.startswith("..") else evil_link(name))
    with pytest.raises(ValueError, match=r"evil\.tar"):
        data.tiny_imagenet20(tmp_path / "evil.tar")
    assert not (tmp_path / "outside").exists()
    assert not list((tmp_path / "cache").iterdir())


def evil_link(target):
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, target
    return link


def test_photo_set_from_the_published_zip_or_its_folder(published, tmp_path):
    check_selection(data.tiny_imagenet20(published))
    zipfile.ZipFile(published).extractall(tmp_path / "unpacked")
    check_selection(data.tiny_imagenet20(tmp_path / "unpacked"))


def test_download_is_checked_and_kept(published, monkeypatch):
    monkeypatch.delenv("VIZLIB_DATA", raising=False)
    monkeypatch.setattr(tiny_imagenet, "URL", published.as_uri())
    with pytest.raises(RuntimeError, match=f"md5 {tiny_imagenet.MD5} is needed; the download"):
        data.tiny_imagenet20()
    monkeypatch.setattr(tiny_imagenet, "MD5", tiny_imagenet._digest(published, "md5"))
    folder = data.tiny_imagenet20()
    check_selection(folder)
    published.unlink()
    assert data.tiny_imagenet20() == folder


def test_without_network_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("VIZLIB_DATA", raising=False)
    monkeypatch.setattr(tiny_imagenet, "URL", "http://127.0.0.1:9/tiny-imagenet-200.zip")
    with pytest.raises(RuntimeError, match="Set VIZLIB_DATA to its folder or tar"):
        data.tiny_imagenet20()
    assert not list((tmp_path / "cache").iterdir())


def test_places_that_are_no_photo_set(tmp_path):
    with pytest.raises(ValueError, match="there is no such file or folder"):
        data.tiny_imagenet20(tmp_path / "none")
    with pytest.raises(ValueError, match="train/CLASS and val/CLASS are needed"):
        data.tiny_imagenet20(tmp_path)
    (tmp_path / "text.tar").write_text("no tar")
    with pytest.raises(ValueError, match=r"text\.tar: a tar of the photo set is needed"):
        data.tiny_imagenet20(tmp_path / "text.tar")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("a/b.txt", "")
    with pytest.raises(ValueError, match="tiny-imagenet-200 as published is needed"):
        data.tiny_imagenet20(tmp_path / "other.zip")
