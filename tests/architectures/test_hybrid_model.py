"""The hybrid equals its parts, put together by hand."""

import torch
from torch import nn
from torchvision.models import resnet18

from vizlib.models.architectures.hybrid_model import HybridModel


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
