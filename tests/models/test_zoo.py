import copy
import csv
import hashlib
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from vizlib import data
from vizlib.models import cards, zoo
from vizlib.models.photos import Photos, preprocessing
from vizlib.models.zoo_architectures import IMAGE_SIZE

FEATURES = {  # what reaches the classifier for one photo: 64 cells in all
    "resnet": (1, 160, 8, 8),
    "seresnet": (1, 160, 8, 8),
    "cbam": (1, 160, 8, 8),
    "convnext": (1, 160, 8, 8),
    "mbconv": (1, 384, 8, 8),
    "vit": (1, 1 + 64, 128),
    "deit": (1, 2 + 64, 128),
    "swin": (1, 8, 8, 160),
    "hybrid": (1, 64, 128),
}
TRAINED = zoo.trained()
WEIGHTS = Path(zoo.__file__).with_name("weights")


def test_names_go_from_cnn_to_transformer():
    assert zoo.names() == list(FEATURES)


@pytest.fixture(scope="module", params=FEATURES)
def member(request):
    torch.manual_seed(0)
    return request.param, zoo.build(request.param).eval().requires_grad_(False)


def features(name, module, photo):
    return module[:2](photo) if name == "convnext" else module.forward_features(photo)


def test_every_member_is_small_and_keeps_eight_by_eight_cells(member):
    name, module = member
    photo = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert 0.5e6 <= sum(parameter.numel() for parameter in module.parameters()) <= 4e6
    assert features(name, module, photo).shape == FEATURES[name]
    assert module(photo).shape == (1, len(zoo.LABELS))


def test_other_numbers_of_classes(member):
    name, _ = member
    assert zoo.build(name, 7).eval()(torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE)).shape == (2, 7)


def test_families_are_what_they_are_made_of(member):
    name, module = member
    kinds = {type(part).__name__ for part in module.modules()}
    attends = bool(kinds & {"Attention", "WindowAttention"})
    convolutions = sum(isinstance(part, nn.Conv2d) and part.kernel_size[0] == 3 for part in module.modules())
    convolutions += sum(isinstance(part, nn.Conv2d) and part.groups > 1 for part in module.modules())
    found = "hybrid" if attends and convolutions else "Transformer" if attends else "CNN"
    assert zoo.MEMBERS[name].family == found


def test_gates_and_tokens_that_the_names_promise():
    def kinds(name):
        return [type(part).__name__ for part in zoo.build(name).modules()]

    assert kinds("seresnet").count("SEModule") == 6
    assert kinds("cbam").count("ChannelAttn") == kinds("cbam").count("SpatialAttn") == 6
    assert not {"SEModule", "ChannelAttn"} & set(kinds("resnet"))
    assert kinds("mbconv").count("SqueezeExcite") == 8
    assert hasattr(zoo.build("deit"), "dist_token")
    blocks = [block for layer in zoo.build("swin").layers for block in layer.blocks]
    assert [block.attn.window_size for block in blocks] == [(4, 4)] * 8
    assert [block.shift_size for block in blocks] == [(0, 0), (2, 2)] * 4


def test_unknown_member_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"got 'vgg'.*resnet, seresnet"):
        zoo.load("vgg")


def test_member_that_is_not_trained(tmp_path):
    for ask in (zoo.card, zoo.load, zoo.confusion):
        with pytest.raises(RuntimeError, match=r"zoo/swin needs .*not trained yet"):
            ask("zoo/swin", tmp_path)


def test_weights_are_small_enough_to_travel():
    sizes = [path.stat().st_size for path in WEIGHTS.iterdir()]
    assert max(sizes) <= 8e6
    assert sum(sizes) <= 30e6


@pytest.mark.parametrize("name", TRAINED)
def test_card_agrees_with_weights_and_with_itself(name):
    card = zoo.card(f"zoo/{name}")
    module, labels, mean, std = zoo.load(name)
    assert labels == zoo.LABELS == card.labels
    assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert not module.training
    assert sum(parameter.numel() for parameter in module.parameters()) == card.parameters
    assert cards.gmacs(module) == card.gmacs
    confusion = zoo.confusion(name)
    assert confusion.sum(dim=1).tolist() == [50] * 20
    assert confusion.trace().item() / 1000 == pytest.approx(card.top1)
    assert (confusion.diag() / 50).tolist() == pytest.approx([card.per_class[label] for label in labels])
    assert card.top1_interval[0] < card.top1 < card.top1_interval[1]
    assert card.top1 > 0.5  # of twenty classes
    assert card.top1 < card.top5 <= 1
    assert 0 < card.ece < 0.5


def test_trained_members_were_trained_alike():
    found = [zoo.card(name) for name in TRAINED]
    assert all(card.recipe == found[0].recipe for card in found)
    assert len({card.sha256 for card in found}) == len(TRAINED) >= 3


@pytest.mark.parametrize("name", TRAINED)
def test_log_is_of_the_whole_training(name):
    with (WEIGHTS / f"{name}.log.csv").open() as file:
        log = list(csv.DictReader(file))
    card = zoo.card(name)
    assert [int(line["epoch"]) for line in log] == list(range(1, card.epochs + 1))
    assert sum(float(line["seconds"]) for line in log) == pytest.approx(card.duration_s, rel=1e-6)
    assert float(log[-1]["loss"]) < 0.7 * float(log[0]["loss"])


def test_card_can_be_read_by_a_person():
    card = zoo.card("vit")
    text = str(card)
    assert all(len(line) < 120 for line in text.splitlines())
    for part in (f"{card.top1:.1%}", f"{card.parameters:,}", card.command, card.sha256, *card.labels):
        assert part in text


def test_sha256_is_of_the_stored_file():
    name = TRAINED[0]
    stored = (WEIGHTS / f"{name}.safetensors").read_bytes()
    assert hashlib.sha256(stored).hexdigest() == zoo.card(name).sha256


def test_gmacs_by_hand():
    # 3 × 3 convolution, 3 to 8 channels, stride 2: 32 × 32 × 8 × 27; then a linear layer 8 to 20.
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 20)
    )
    before = copy.deepcopy(module.state_dict())
    assert cards.gmacs(module) == pytest.approx((32 * 32 * 8 * 27 + 8 * 20) / 1e9)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(module.state_dict()[key], before[key]) for key in before)


@pytest.fixture(scope="module")
def validation():
    if not os.environ.get("VIZLIB_DATA"):
        pytest.skip("set VIZLIB_DATA to the photo set, folder or tar")
    return Photos(data.tiny_imagenet20() / "val", preprocessing())


@pytest.mark.parametrize("name", TRAINED)
def test_accuracy_is_the_cards(name, validation):
    module, *_ = zoo.load(name)
    found = cards.measure(module, validation)
    assert found.top1 == zoo.card(name).top1
    assert tuple(validation.classes) == zoo.LABELS
