"""The hybrid equals its parts, put together by hand."""

from urllib.error import URLError

import pytest
import torch
from huggingface_hub import constants
from torch import nn
from torchvision.models import resnet18, resnet50

from vizlib.models.architectures.hybrid_model import HybridModel, hybrid_resnet50
from vizlib.models.load import load


def small(depth: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return HybridModel(resnet18, 48, 4, depth, image_size=64, num_classes=5).eval()


def test_it_is_its_parts():
    model, x = small(), torch.randn(2, 3, 64, 64)
    resnet = resnet18().eval()
    missing, unexpected = resnet.load_state_dict(model.backbone.state_dict(), strict=False)
    assert not unexpected
    assert missing == ["fc.weight", "fc.bias"]
    resnet.avgpool, resnet.fc = nn.Identity(), nn.Identity()
    with torch.no_grad():
        cells = resnet(x).view(2, 512, 2, 2)  # torchvision flattens what it returns
        weight = model.project.weight[:, :, 0, 0]
        tokens = torch.stack([weight @ cells[:, :, i, j, None] for i in (0, 1) for j in (0, 1)], 1)[..., 0]
        y = tokens + model.project.bias + model.pos_embed
        layer = model.transformer.layers[0]
        normal = layer.norm1(y)
        y = y + layer.self_attn(normal, normal, normal, need_weights=False)[0]
        y = y + layer.linear2(nn.functional.gelu(layer.linear1(layer.norm2(y))))
        wanted = model.head(model.transformer.norm(y).mean(1))
        torch.testing.assert_close(model(x), wanted, atol=1e-5, rtol=1e-4)


def test_positions_tell_the_cells_apart():
    model = small().double()
    cells = torch.randn(1, 512, 2, 2).double()
    model.backbone = nn.Identity()
    shuffled = cells.flip(3)
    with torch.no_grad():
        assert (model(cells) - model(shuffled)).abs().max() > 1e-6
        model.pos_embed.zero_()
        torch.testing.assert_close(model(cells), model(shuffled))  # the sketch without positions


def test_a_trained_backbone_from_a_file(tmp_path):
    torch.manual_seed(1)
    trained = resnet50().state_dict()
    torch.save({"model": trained}, tmp_path / "resnet.pth")
    clf = load("arch/hybrid_resnet50", pretrained=False, backbone_weights=tmp_path / "resnet.pth", depth=1)
    found = clf.module.backbone.state_dict()
    assert len(found) == len(trained) - 2
    assert all(torch.equal(found[name].cpu(), trained[name]) for name in found)


def refuse(*_, **__):
    raise URLError("refused")


@pytest.mark.parametrize("name", ["IMAGENET1K_V2", "timm/resnet50.a1_in1k"])
def test_a_trained_backbone_without_network_says_what_to_do(name, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(RuntimeError, match=r"backbone.*in no cache.*pass backbone_weights=FILE, or leave it out"):
        hybrid_resnet50(backbone_weights=name)


def test_no_such_backbone():
    with pytest.raises(ValueError, match=r"'IMAGENET21K' is neither a name nor a file\. Pass one of IMAGENET1K_V1"):
        hybrid_resnet50(backbone_weights="IMAGENET21K")
