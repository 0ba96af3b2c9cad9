"""New classes: what is trained, what stays, and that LoRA ends as an ordinary model."""

import copy

import pytest
import tiny
import torch

from vizlib.methods.table import explain
from vizlib.models.adapt import adapt

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


def test_mistakes_are_told(pictures):
    with pytest.raises(ValueError, match="how is one of full, lora, head; got 'half'"):
        adapt(tiny.classifier(tiny.vit()), *pictures, CLASSES, how="half")
