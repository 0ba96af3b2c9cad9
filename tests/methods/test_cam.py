"""Class activation maps: by hand, against loops in float64, against the grad-cam package and Captum."""

from __future__ import annotations

import pytest
import references
import timm
import torch
import torchvision
from torch import nn

from vizlib.capture.taps import taps
from vizlib.methods import cam
from vizlib.methods.table import METHODS, explain
from vizlib.types import Classifier

A = torch.tensor([[[[1.0, 2], [1, 1]], [[0, 1], [1, 0]]]])  # (1, 2, 2, 2), sums 5 and 2
G = torch.tensor([[[[[1.0, 0], [-1, 2]], [[1, 1], [1, 1]]]]])  # (1, 1, 2, 2, 2), means 1/2 and 1


@pytest.mark.parametrize(
    ("method", "by_hand"),
    [
        ("gradcam", [[0.5, 2], [1.5, 0.5]]),
        # w = (1/(2+5) + 2/(2+10), 4 · 1/(2+2)) = (13/42, 1)
        ("gradcam++", [[13 / 42, 26 / 42 + 1], [13 / 42 + 1, 13 / 42]]),
        ("hirescam", [[1, 1], [0, 2]]),
        ("gradcam_elementwise", [[1, 1], [1, 2]]),
        ("layercam", [[1, 1], [1, 2]]),
        ("xgradcam", [[0.4, 1.8], [1.4, 0.4]]),  # w = ((1 - 1 + 2)/5, 2/2)
    ],
)
def test_by_hand(method, by_hand):
    torch.testing.assert_close(METHODS[method].function(A, G), torch.tensor([[by_hand]], dtype=torch.float32))


def test_eigencam_by_hand():
    picture = torch.tensor([[1.0, 2], [0, 2]])
    channels = torch.stack([3 * picture, 4 * picture])[None]  # rank one: 5 · picture along (3, 4)/5
    torch.testing.assert_close(cam.eigencam(-channels, G), 5 * picture[None, None])
    three = cam.eigencam(channels, G.expand(1, 3, -1, -1, -1))
    torch.testing.assert_close(three, 5 * picture.expand(1, 3, 2, 2))


@pytest.mark.parametrize("method", references.CAMS)
def test_equals_the_twin_for_batches_and_targets(method):
    generator = torch.Generator().manual_seed(0)
    activation = torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64)
    gradient = torch.randn(2, 3, 4, 3, 5, generator=generator, dtype=torch.float64)
    maps = METHODS[method].function(activation, gradient)
    assert maps.shape == (2, 3, 3, 5)
    for i in range(2):
        for j in range(3):
            twin = references.CAMS[method](activation[i], gradient[i, j])
            torch.testing.assert_close(maps[i, j], twin, rtol=1e-8, atol=1e-8)


def test_grad_cam_plus_plus_needs_its_denominator():
    """A channel that is active everywhere loses weight against one that is active in one place."""
    wide, narrow = torch.ones(2, 2), torch.tensor([[1.0, 0], [0, 0]])
    activation = torch.stack([wide, narrow])[None]
    gradient = torch.ones(1, 1, 2, 2, 2)
    found = cam.gradcam_plus_plus(activation, gradient)[0, 0]
    torch.testing.assert_close(found[1, 1], torch.tensor(4 / 6))  # 4 · 1/(2 + 4)
    torch.testing.assert_close(found[0, 0] - found[1, 1], torch.tensor(4 / 3))  # 4 · 1/(2 + 1)


def test_dead_channels_and_zero_gradients_are_no_nan():
    activation = torch.zeros(1, 2, 2, 2)
    activation[0, 1] = 1
    gradient = torch.zeros(1, 1, 2, 2, 2)
    gradient[0, 0, :, 0, 0] = 1
    for name in references.CAMS:
        assert METHODS[name].function(activation, gradient).isfinite().all(), name


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "xgradcam"])
def test_maps_in_logits_sum_to_the_logit_under_a_linear_head(method, cnn, x):
    heat = explain(cnn, x, method, target=3)
    bias = cnn.module.fc.bias[3].detach()
    torch.testing.assert_close(heat.values.sum((1, 2)), heat.score - bias)


def test_plain_cam_averages_to_the_logit(cnn, x):
    heat = explain(cnn, x, "cam", target=["tea", 1])
    bias = cnn.module.fc.bias[[4, 1]].detach()
    torch.testing.assert_close(heat.values.mean((2, 3)), heat.score - bias)
    weight = cnn.module.fc.weight.detach()[4]
    by_hand = sum(w * channel for w, channel in zip(weight, cnn.module.stem(x)[1], strict=True))
    torch.testing.assert_close(heat.values[1, 0], by_hand.detach())


class Bent(nn.Module):
    """A head that pools but is not linear: the gradient is the same at all places, plain CAM still wrong."""

    def __init__(self, cnn: nn.Module, middle: nn.Module) -> None:
        super().__init__()
        self.stem, self.middle, self.fc = cnn.stem, middle, cnn.fc

    def forward(self, x):
        return self.fc(self.middle(self.stem(x).mean((2, 3))))


def test_plain_cam_refuses_other_heads(cnn, vit, x):
    with pytest.raises(RuntimeError, match=r"plain CAM needs .* varies over places"):
        explain(vit, x, "cam")
    for middle in (nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 8), nn.GELU())):
        bent = Classifier(Bent(cnn.module, middle), "bent", cnn.transform)
        with pytest.raises(RuntimeError, match="is not a weight row"):
            explain(bent, x, "cam")
    with pytest.raises(RuntimeError, match=r"from the 6 channels of 'stem.1' to the 5 classes"):
        explain(cnn, x, "cam", layer="stem.1")


PACKAGE = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "xgradcam": "XGradCAM",
    "gradcam_elementwise": "GradCAMElementWise",
}


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=7).eval()
    module.fc.weight.data *= 100  # the package adds 1e-6 to g² in Grad-CAM++
    return Classifier(module, "resnet18", lambda p: p, (3, 64, 64))


@pytest.fixture(scope="module")
def plain_vit() -> Classifier:
    torch.manual_seed(0)
    module = timm.models.VisionTransformer(
        img_size=64, patch_size=16, embed_dim=24, depth=3, num_heads=3, num_classes=7
    ).eval()
    nn.init.normal_(module.head.weight, std=100)
    return Classifier(module, "vit", lambda p: p, (3, 64, 64))


@pytest.mark.parametrize("method", PACKAGE)
@pytest.mark.parametrize(("model", "layer"), [("resnet", "layer3"), ("plain_vit", "blocks.2.norm1")])
def test_equals_the_grad_cam_package(method, model, layer, request):
    """Through the package's own hooks and reshape; its picture is the relu of ours, stretched to [0, 1]."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget as Target

    clf = request.getfixturevalue(model)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    ours = explain(clf, images, method, target=torch.tensor([2, 5]), layer=layer)
    reshape = None if model == "resnet" else lambda t: t[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    with getattr(pytorch_grad_cam, PACKAGE[method])(clf.module, [clf.module.get_submodule(layer)], reshape) as package:
        theirs = package(images.clone().requires_grad_(), [Target(2), Target(5)])
    expected = scale_cam_image(scale_cam_image(ours.values.relu().numpy(), (64, 64)))
    torch.testing.assert_close(torch.from_numpy(theirs), torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


def test_eigencam_of_centred_channels_equals_the_package(resnet):
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection

    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    tap = taps(resnet, images, 1, ["layer3"])[0]
    centred = tap.activation - tap.activation.mean((2, 3), keepdim=True)
    theirs = torch.from_numpy(get_2d_projection(tap.activation.numpy()))
    ours = cam.eigencam(centred, tap.gradient)[:, 0]
    sign = (ours * theirs).sum((1, 2)).sign()[:, None, None]  # the package leaves it to chance
    torch.testing.assert_close(ours, theirs * sign, rtol=1e-3, atol=1e-4)


def test_equals_captum(resnet, plain_vit):
    from captum.attr import LayerGradCam, LayerGradientXActivation

    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    target = torch.tensor([2, 5])
    theirs = LayerGradCam(resnet.module, resnet.module.layer4).attribute(images, target)[:, 0]
    ours = explain(resnet, images, "gradcam", target=target, layer="layer4").values
    torch.testing.assert_close(ours, theirs.detach())
    # Captum's Grad-CAM takes tokens for channels; gradient times activation has the layout of the layer
    layer = plain_vit.module.blocks[2].norm1
    products = LayerGradientXActivation(plain_vit.module, layer).attribute(images, target)
    ours = explain(plain_vit, images, "hirescam", target=target, layer="blocks.2.norm1").values
    torch.testing.assert_close(ours, products[:, 1:].sum(2).unflatten(1, (4, 4)).detach())
