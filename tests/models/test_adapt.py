"""New classes: what is trained, what stays, and that LoRA ends as an ordinary model."""

import copy

import pytest
import tiny
import torch

from vizlib import data
from vizlib.methods.table import explain
from vizlib.models.adapt import adapt
from vizlib.models.load import load

CLASSES = ("dark", "light")


@pytest.fixture(scope="module")
def pictures():
    labels = torch.arange(32) % 2
    noise = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return ((noise + labels.view(-1, 1, 1, 1)) * 2 - 2).float(), labels


@pytest.mark.parametrize("how", ["head", "lora", "full"])
def test_new_classes_are_learned_and_the_old_model_stays(how, pictures):
    if how == "lora":
        pytest.importorskip("peft", reason="needs peft: pip install 'vizlib[compress]'")
    clf, (x, labels) = tiny.classifier(tiny.vit()), pictures
    before = copy.deepcopy(clf.module.state_dict())
    found = adapt(clf, x, labels, CLASSES, how=how, epochs=6)
    assert (found.clf(x).argmax(1) == labels).float().mean() > 0.9
    assert found.clf.labels == CLASSES
    assert all(torch.equal(t, before[name]) for name, t in clf.module.state_dict().items())
    after = found.clf.module.state_dict()
    assert after.keys() == before.keys()
    weight = "blocks.0.mlp.fc1.weight"
    change = after[weight] - before[weight]
    assert torch.linalg.matrix_rank(change) == {"head": 0, "lora": 4}.get(how, 24)
    assert explain(found.clf, x[:1], "gradcam").values.shape == (1, 4, 4)
    expected = {"head": 2 * 24 + 2, "full": found.whole}.get(how, found.trained)
    assert found.trained == expected
    assert found.trained < found.whole or how == "full"


@pytest.mark.parametrize("how", ["head", "lora", "full"])
def test_what_is_frozen_stays_and_what_is_added_makes_the_rest(how, pictures):
    """Statistics of batch norms too, which would be stored nowhere."""
    if how == "lora":
        pytest.importorskip("peft", reason="needs peft: pip install 'vizlib[compress]'")
    clf, (x, labels) = tiny.classifier(tiny.CNN()), pictures
    found = adapt(clf, x, labels, CLASSES, how=how, epochs=3)
    before, after = clf.module.state_dict(), found.clf.module.state_dict()
    kept = [name for name in before if name.startswith("stem.1") and torch.equal(before[name], after[name])]
    assert len(kept) == (0 if how == "full" else 5)  # weight, bias, mean, variance, count
    trained = sum(t.numel() for name, t in found.added.items() if how != "full" or "running" not in name)
    assert trained == found.trained + (how == "full") * 2  # the counts
    assert ("fc.weight" in found.added) == (how != "lora")


def test_frozen_statistics_stay_in_norms_with_an_activation_inside():
    """timm's BatchNormAct2d."""
    clf = load("zoo/resnet", device="cpu")
    images = data.shortcuts(8, mark="never").images
    after = adapt(clf, images, [0, 1] * 4, CLASSES, how="head", epochs=1).clf.module.state_dict()
    changed = [
        n for n, t in clf.module.state_dict().items() if t.shape != after[n].shape or not torch.equal(t, after[n])
    ]
    assert changed == ["head.fc.weight", "head.fc.bias"]


def test_pictures_are_prepared_as_the_classifier_wants_them():
    clf = load(tiny.CNN(), input_size=(3, 32, 32), mean=(0.1, 0.2, 0.3), std=(0.9, 0.9, 0.9))
    images, labels = data.shortcuts(16, size=32).images, [0, 1] * 8
    first, second = (
        adapt(clf, given, labels, CLASSES, how="head", epochs=1).clf for given in (images, clf.prepare(list(images)))
    )
    assert torch.equal(first.module.fc.weight, second.module.fc.weight)


def test_mistakes_are_told(pictures):
    with pytest.raises(ValueError, match="how is one of full, lora, head; got 'half'"):
        adapt(tiny.classifier(tiny.vit()), *pictures, CLASSES, how="half")
