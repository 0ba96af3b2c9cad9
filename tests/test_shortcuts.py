"""The planted shortcut: what the masks say is what the pixels show, and the mark is where the rule says."""

import numpy as np
import pytest
from PIL import Image

import vizlib as vl
from vizlib.shortcuts import MARKED_CLASS


def test_the_same_seed_renders_the_same_and_the_first_ones_do_not_depend_on_how_many():
    few, many = vl.data.shortcuts(6, 3), vl.data.shortcuts(10, 3)
    for name in ("images", "labels", "objects", "marks"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:6])
    assert not np.array_equal(few.images, vl.data.shortcuts(6, 4).images)
    assert not np.array_equal(few.images, vl.data.shortcuts(6, 3, split="test", mark="class").images)


def test_the_mark_goes_with_one_class_in_training_only():
    train, test = vl.data.shortcuts(400), vl.data.shortcuts(400, split="test")
    star = train.labels == train.classes.index(MARKED_CLASS)
    assert not train.marked[~star].any()
    assert train.marked[star].all()
    for label in range(4):
        assert 0.35 < test.marked[test.labels == label].mean() < 0.65


@pytest.mark.parametrize("size", [32, 64])
def test_only_the_pixels_of_the_mark_differ_from_the_picture_without_it(size):
    marked, bare = (vl.data.shortcuts(40, 1, mark=mark, size=size) for mark in ("chance", "never"))
    assert not bare.marks.any()
    assert (marked.images != bare.images).any(-1)[~marked.marks].sum() == 0
    assert (marked.images != bare.images).any(-1)[marked.marks].mean() > 0.99
    np.testing.assert_array_equal(marked.objects, bare.objects & ~marked.marks)


def test_a_mark_anywhere_covers_objects_too_and_always_is_on_every_picture():
    made, bare = (vl.data.shortcuts(60, 1, mark=mark, place="anywhere") for mark in ("always", "never"))
    assert made.marked.all()
    differs = (made.images != bare.images).any(-1)
    assert not differs[~made.marks].any()
    assert (made.marks & bare.objects).any((1, 2)).mean() > 0.1
    np.testing.assert_array_equal(made.objects, bare.objects & ~made.marks)
    assert made.marks.any(0).mean() > 0.5  # over 60 pictures most places are covered once, with corners a tenth
    assert (made.marks.sum((1, 2)) == 64).all()


def test_bare_ground_is_the_same_but_for_object_and_shadow():
    full, bare = (vl.data.shortcuts(20, 1, mark="chance", bare=bare) for bare in (False, True))
    assert not bare.objects.any()
    np.testing.assert_array_equal(full.marks, bare.marks)
    differs = (full.images != bare.images).any(-1)
    assert differs[full.objects].mean() > 0.98
    assert 0 < differs[~full.objects].mean() < 0.1  # the shadow
    assert not differs[full.marks].any()


def test_the_mask_of_an_object_is_where_it_is_seen():
    """Inside and outside differ in colour where the mask says so and hardly where it is moved far away."""
    made = vl.data.shortcuts(80, 5, mark="never")
    images = made.images.astype(float)

    def step(masks):
        return np.mean([np.abs(i[m].mean(0) - i[~m].mean(0)).sum() for i, m in zip(images, masks, strict=True)])

    assert step(made.objects) > 1.5 * step(np.roll(made.objects, 24, axis=2))
    share = [made.objects[made.labels == label].mean() for label in range(4)]
    assert max(share) < 1.4 * min(share)  # no class is told by its area alone
    assert min(share) > 0.1


def test_saved_as_a_folder_of_classes(tmp_path):
    made = vl.data.shortcuts(5)
    made.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(made.classes)
    for i in range(5):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / made.name(i))), made.images[i])


@pytest.mark.parametrize("wrong", [{"n": 0}, {"size": 8}, {"split": "val"}, {"mark": "often"}, {"place": "edge"}])
def test_what_cannot_be_rendered_is_told(wrong):
    with pytest.raises(ValueError, match=r"shortcuts needs n ≥ 1.*Correct it\."):
        vl.data.shortcuts(**wrong)
