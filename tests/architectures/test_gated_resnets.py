"""CBAM and BAM: the gates against loops in float64, and their place in the ResNet."""

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from vizlib.models.architectures.bam_resnet import BAM, BAMResNet
from vizlib.models.architectures.cbam_resnet import CBAM, CBAMBasicBlock, CBAMBottleneck, resnet18_cbam
from vizlib.models.architectures.registry import build


def randomised(module: nn.Module) -> nn.Module:
    """Drawn weights and statistics, in evaluation mode, in float64."""
    draw = torch.Generator().manual_seed(0)
    for name, t in module.state_dict().items():
        if t.is_floating_point():
            t.copy_(torch.rand(t.shape, generator=draw) + (0.5 if "var" in name else -0.5))
    return module.double().eval()


def photo_features() -> torch.Tensor:
    return torch.randn(2, 32, 5, 6, generator=torch.Generator().manual_seed(1)).double()


def test_cbam_is_channel_gate_then_spatial_gate():
    cbam, x = randomised(CBAM(32)), photo_features()
    got = cbam(x)
    mlp, spatial = cbam.ChannelGate.mlp, cbam.SpatialGate.spatial
    for b in range(2):
        pooled = [torch.stack([getattr(x[b, c], how)() for c in range(32)]) for how in ("mean", "max")]
        hidden = [mlp[3](mlp[1](p).clamp(min=0)) for p in pooled]
        y = x[b] * torch.sigmoid(hidden[0] + hidden[1])[:, None, None]
        for i in range(5):
            for j in range(6):
                total = 0.0
                for u in range(-3, 4):
                    for w in range(-3, 4):
                        if 0 <= i + u < 5 and 0 <= j + w < 6:
                            cell = y[:, i + u, j + w]
                            kernel = spatial.conv.weight[0, :, u + 3, w + 3]
                            total = total + kernel[0] * cell.max() + kernel[1] * cell.mean()
                bn = spatial.bn
                normal = (total - bn.running_mean) / (bn.running_var + 1e-5).sqrt() * bn.weight + bn.bias
                torch.testing.assert_close(got[b, :, i, j], y[:, i, j] * torch.sigmoid(normal))


def test_spatial_gates_begin_at_one_half():
    gate = resnet18_cbam().eval().layer1[0].cbam.SpatialGate
    x = torch.randn(1, 64, 4, 4)
    torch.testing.assert_close(gate(x), x / 2)


def bam_branches(bam: BAM, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two branches written out with functions."""
    names = dict(bam.channel_att.gate_c.named_children())
    pooled = x.mean((2, 3))
    channel = names["gate_c_fc_final"](names["gate_c_bn_1"](names["gate_c_fc_0"](pooled)).relu())
    names = dict(bam.spatial_att.gate_s.named_children())
    y = names["gate_s_bn_reduce0"](names["gate_s_conv_reduce0"](x)).relu()
    for i in range(2):
        conv = names[f"gate_s_conv_di_{i}"]
        y = nn.functional.conv2d(y, conv.weight, conv.bias, padding=4, dilation=4)
        y = names[f"gate_s_bn_di_{i}"](y).relu()
    return channel, names["gate_s_conv_final"](y)[:, 0]


def test_bam_lets_each_value_through_once_and_its_gate_once_more():
    bam, x = randomised(BAM(32)), photo_features()
    got, (channel, spatial) = bam(x), bam_branches(bam, x)
    for b in range(2):
        for c in range(32):
            for i in range(5):
                for j in range(6):
                    gate = torch.sigmoid(channel[b, c] * spatial[b, i, j])
                    torch.testing.assert_close(got[b, c, i, j], x[b, c, i, j] * (1 + gate))


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("kind", [CBAM, BAM])
def test_with_open_gates_it_is_torchvisions_resnet(kind, block):
    torch.manual_seed(0)
    gated = CBAMBasicBlock if block is BasicBlock else CBAMBottleneck
    options = {"layers": [2, 1, 1, 1], "num_classes": 5}
    model = ResNet(gated, **options).eval() if kind is CBAM else BAMResNet(block, **options).eval()
    wanted = ResNet(block, **options).eval()
    missing, unexpected = model.load_state_dict(wanted.state_dict(), strict=False)
    assert not unexpected
    assert all("bam" in name for name in missing)
    for gate in model.modules():
        if isinstance(gate, kind):
            gate.forward = lambda x: x
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(x), wanted(x))


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("resnet18_cbam", CBAM, 8),
        ("resnet50_cbam", CBAM, 16),
        ("resnet18_bam", BAM, 3),
        ("resnet50_bam", BAM, 3),
    ],
)
def test_gates_stand_in_every_block_or_between_the_stages(name, kind, count):
    with torch.device("meta"):
        assert sum(isinstance(m, kind) for m in build(name).modules()) == count
