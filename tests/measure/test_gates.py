"""Gates over many photographs, against one trace per photograph and against numbers worked out by hand."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor, nn

from vizlib.capture.trace import trace
from vizlib.measure.gates import GateSurvey, survey_gates


class Gated(nn.Module):
    """Three channels, each let through by the sigmoid of its mean; then every place by that of its channels' sum."""

    def __init__(self) -> None:
        super().__init__()
        self.channel, self.place = ChannelGate(), PlaceGate()
        self.fc = nn.Linear(3, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.place(self.channel(x)).mean((2, 3)))


class ChannelGate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class PlaceGate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sum(1, keepdim=True).sigmoid()


@pytest.fixture
def clf():
    return tiny.classifier(Gated(), 8)


def plain(*levels: float) -> Tensor:
    """Photographs of one value each, as the model takes them."""
    return torch.tensor(levels)[:, None, None, None].expand(-1, 3, 8, 8).clone()


def test_batches_equal_one_photograph_at_a_time(clf):
    x = tiny.images(5, 8)
    torch.nn.init.zeros_(clf.module.fc.weight)  # one predicted class: the order stays
    survey = survey_gates(clf, x, batch=2)
    for i in range(5):
        alone = trace(clf, x[i : i + 1]).gates
        torch.testing.assert_close(survey.channel["channel"][i], alone["channel"].values.flatten())
        torch.testing.assert_close(survey.spatial["place"][i], alone["place"].values[0, 0])


def test_photographs_of_a_predicted_class_lie_side_by_side(clf):
    with torch.no_grad():  # light photographs are the first class, dark ones the second
        clf.module.fc.weight.zero_()[0] += 1
        clf.module.fc.weight[1] -= 1
        clf.module.fc.bias.zero_()
    survey = survey_gates(clf, plain(1.0, -1.0, 2.0), batch=1)
    assert survey.classes == survey.predicted == ("cat", "cat", "coffee")
    expected = torch.tensor([1.0, 2.0, -1.0]).sigmoid()[:, None].expand(3, 3)
    torch.testing.assert_close(survey.channel["channel"], expected)
    assert survey.image.mean((1, 2, 3)).argmax() == 1


def test_a_photograph_of_one_value_opens_its_gates_by_the_sigmoid_of_it(clf):
    survey = survey_gates(clf, plain(2.0))
    open_by = torch.tensor(2.0).sigmoid()
    torch.testing.assert_close(survey.channel["channel"], open_by.expand(1, 3))
    torch.testing.assert_close(survey.spatial["place"], (3 * 2.0 * open_by).sigmoid().expand(1, 8, 8))


def test_means_differences_and_spread_by_hand():
    values = torch.tensor([[0.1, 0.5], [0.3, 0.5], [0.8, 0.1]])
    classes = ("night", "night", "day")
    survey = GateSurvey("net", classes, classes, torch.zeros(3, 3, 8, 8), {"one": values}, {})
    assert survey.means("one").loc["night"].tolist() == pytest.approx([0.2, 0.5])
    assert survey.difference("one", "night", "day").to_dict() == pytest.approx({1: 0.4, 0: -0.6})
    assert survey.difference("one", "night", "day").index.tolist() == [1, 0]
    assert survey.spread()["one"] == pytest.approx((0.3 + 0.2) / 2)


def test_photographs_by_class_keep_their_class_and_lie_side_by_side(clf):
    survey = survey_gates(clf, {"b": [torch.rand(3, 8, 8)] * 2, "a": [torch.rand(3, 8, 8)]})
    assert survey.classes == ("b", "b", "a")
    assert survey.image.shape == (3, 3, 8, 8)


def test_refusals(clf):
    with pytest.raises(ValueError, match=r"needs photographs; got none"):
        survey_gates(clf, [])
    with pytest.raises(ValueError, match=r"model with gates.*tiny has none"):
        survey_gates(tiny.classifier(tiny.CNN()), tiny.images(1))
    survey = survey_gates(clf, plain(0.5, 1.0))
    with pytest.raises(ValueError, match=r"layer with channel gates is needed; got 'place'"):
        survey.means("place")
    with pytest.raises(ValueError, match=r"two classes of the photographs; got 'nothing'"):
        survey.difference("channel", "nothing", "nothing")
