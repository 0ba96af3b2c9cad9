"""What a classifier says when it is fed something it cannot take, and how it prints."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor, nn

from vizlib.capture.hold import hold
from vizlib.capture.trace import trace
from vizlib.methods.table import explain


class Flat(nn.Module):
    """Takes 32 × 32 pixels and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.head = nn.Linear(4 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).relu().flatten(1))


@pytest.mark.parametrize("call", [lambda clf, x: clf(x), explain, trace])
@pytest.mark.parametrize("build", [Flat, tiny.vit])
def test_another_size_is_told_with_both_sizes(build, call):
    clf = tiny.classifier(build())
    told = r"tiny needs inputs of \(3, 32, 32\); got \(3, 48, 48\), which it cannot take: .*input_size=\(3, 48, 48\)\.$"
    with pytest.raises(ValueError, match=told) as caught:
        call(clf, tiny.images(2, 48))
    assert isinstance(caught.value.__cause__, RuntimeError | AssertionError)
    assert call(clf, tiny.images(2)) is not None


@pytest.mark.parametrize("call", [lambda clf, x: clf(x), explain])
def test_what_a_model_raises_at_its_own_size_is_its_own_error_with_a_note(call):
    clf = replace(tiny.classifier(Flat()), input_size=(3, 48, 48))  # as if loaded with the wrong size
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        call(clf, tiny.images(2, 48))
    assert "was run on (3, 48, 48), its input_size" in caught.value.__notes__[0]


@pytest.mark.parametrize("size", [32, 48])
def test_what_watches_a_run_is_not_taken_for_the_model(size):
    clf = tiny.classifier(tiny.CNN())
    with hold(clf, {"body": 1.0}), pytest.raises(ValueError, match=r"^a gate of tiny is needed") as caught:
        clf(tiny.images(1, size))
    assert not getattr(caught.value, "__notes__", [])


def test_memory_that_does_not_suffice_is_not_blamed_on_the_size():
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("no more")

    with pytest.raises(torch.OutOfMemoryError, match="no more"):
        tiny.classifier(Large())(tiny.images(1, 48))


@pytest.mark.parametrize("labels", [tuple("abc"), tuple("abcdefg")])
@pytest.mark.parametrize("call", [lambda clf, x: clf(x), explain, trace])
def test_another_number_of_labels_than_classes_is_told(call, labels):
    clf = replace(tiny.classifier(tiny.CNN()), labels=labels)
    with pytest.raises(ValueError, match=rf"tiny gives 5 logits and was loaded with {len(labels)} labels\. Name every"):
        call(clf, tiny.images())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_told_by_photograph(value):
    x = tiny.images(3)
    x[2, 1, 5, 7] = value
    with pytest.raises(ValueError, match="photograph 2 holds NaN or infinity"):
        tiny.classifier(tiny.CNN())(x)


def test_an_empty_batch_is_told():
    with pytest.raises(ValueError, match="a photograph is needed; got an empty batch"):
        explain(tiny.classifier(tiny.CNN()), torch.zeros(0, 3, 32, 32))


def test_prints_what_it_is_on_one_line():
    told = "Classifier 'tiny': CNN, 5 labels, input 3 × 32 × 32, float32 on cpu"
    assert repr(tiny.classifier(tiny.CNN())) == told
