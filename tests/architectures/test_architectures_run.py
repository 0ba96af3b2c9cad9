"""Every architecture, small, under what a user does with a classifier."""

import copy

import pytest
import torch
from architectures.small import FIXED, SMALL
from torch import nn

from vizlib.models.architectures.lv_vit import LVViT


@pytest.fixture(params=SMALL, scope="module")
def named(request) -> tuple[str, nn.Module]:
    """Every architecture with drawn weights: what starts at zero or fades on the way hides mistakes."""
    torch.manual_seed(0)
    model = SMALL[request.param]()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("weight") and p.ndim > 1:
                p.normal_(std=(2 / p[0].numel()) ** 0.5)
            elif p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    return request.param, model.eval()


def photos(*size: int) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_a_batch_is_its_photos(named):
    name, model = named
    for size in [(64, 64)] if name in FIXED else [(64, 64), (64, 96), (71, 85)]:
        x = photos(*size)
        got = model(x)
        assert got.shape == (2, 5)
        assert (got[0] - got[1]).abs().max() > 1e-6  # it looks at the photo
        torch.testing.assert_close(got, torch.cat([model(x[:1]), model(x[1:])]), atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(named, dtype):
    _, model = named
    x = photos(64, 64)
    wanted, got = model(x), copy.deepcopy(model).to(dtype)(x.to(dtype))
    assert got.dtype == dtype
    assert (got.float() - wanted).norm() < 0.1 * wanted.norm()


@torch.no_grad()
def test_export_keeps_the_function_for_any_batch(named):
    _, model = named
    sizes = ({0: torch.export.Dim("b", min=1)},)
    exported = torch.export.export(model, (photos(64, 64),), dynamic_shapes=sizes).module()
    x = torch.cat([photos(64, 64), photos(64, 64)[:1].flip(3)])
    torch.testing.assert_close(exported(x), model(x), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_compile_finds_one_graph(named):
    """Up to the kernels, which "aot_eager" leaves as they are: tracing, and every operation taken apart."""
    _, model = named
    x = photos(64, 64)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-4)


def test_mixtoken_draws_its_box_anew_when_compiled():
    model, x = LVViT(24, 1, 3, num_classes=5, image_size=64).train(), photos(64, 64)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.manual_seed(0)
    assert len({compiled(x)[2] for _ in range(4)}) > 1


def test_evaluation_draws_nothing_and_gradients_reach_the_photo(named):
    _, model = named
    x = photos(64, 64).requires_grad_()
    before = torch.get_rng_state()
    model(x)[:, 0].sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
    assert (x.grad.abs().amax((1, 2, 3)) > 0).all()
