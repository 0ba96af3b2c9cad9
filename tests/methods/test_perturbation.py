"""Score-CAM and Ablation-CAM: against loops in float64 and against the grad-cam package run on its own."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import references
import torch
import torchvision
from torch import nn

from vizlib.capture.taps import taps
from vizlib.methods.table import contrast, explain
from vizlib.types import Classifier


@pytest.fixture
def double(cnn):
    return replace(cnn, module=deepcopy(cnn.module).double())


def test_scorecam_equals_the_twin(double, x):
    heat = explain(double, x, "scorecam", target=[0, 3], batch=3)
    for i in range(2):
        features = double.module.stem(x[i : i + 1].double()).detach()[0]
        for j, at in enumerate((0, 3)):
            twin = references.scorecam(lambda z, at=at: double.module(z)[:, at], x[i].double(), features)
            torch.testing.assert_close(heat.values[i, j], twin, rtol=1e-5, atol=1e-6)  # the package's float32


def test_ablationcam_equals_the_twin(double, x):
    heat = explain(double, x, "ablationcam", target=[0, 3], batch=3)
    for i in range(2):
        features = double.module.stem(x[i : i + 1].double()).detach()[0]
        for j, at in enumerate((0, 3)):
            twin = references.ablationcam(lambda f, at=at: double.module.head(f)[:, at], features)
            torch.testing.assert_close(heat.values[i, j], twin, rtol=1e-6, atol=1e-8)


def test_ablationcam_by_hand(double, x):
    """Under average pooling and a linear layer the drop of channel c is w_c · mean(A_c)."""
    features = double.module.stem(x.double()).detach()
    drop = double.module.fc.weight[2] * features.mean((2, 3))
    by_hand = torch.einsum("bc,bcrs->brs", drop, features)
    torch.testing.assert_close(explain(double, x, "ablationcam", target=2).values, by_hand.detach())


@pytest.mark.parametrize(("model", "layer"), [("vit", "blocks.1.norm1"), ("swin", "layers.0")])
def test_ablation_of_tokens_and_channels_last(model, layer, x, request):
    """Every channel silenced by a hook written for the layout: patches only, not the class token."""
    clf = request.getfixturevalue(model)
    module = clf.module.get_submodule(layer)

    def silence(channel):
        def hook(_module, _args, output):
            output = output.clone()
            (output[:, 1:] if model == "vit" else output)[..., channel] = 0
            return output

        return hook

    heat = explain(clf, x, "ablationcam", target=1, layer=layer)
    activation = taps(clf, x, 1, [layer])[0].activation
    expected = torch.zeros_like(heat.values)
    for channel in range(activation.shape[1]):
        handle = module.register_forward_hook(silence(channel))
        drop = heat.score - clf(x)[:, 1]
        handle.remove()
        expected += drop[:, None, None] * activation[:, channel]
    torch.testing.assert_close(heat.values, expected, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    module = torchvision.models.resnet18(num_classes=7).eval()
    return Classifier(module, "resnet18", lambda p: p, (3, 64, 64))


@pytest.mark.parametrize(("method", "name"), [("scorecam", "ScoreCAM"), ("ablationcam", "AblationCAM")])
def test_equals_the_package_where_it_works(method, name, resnet):
    """A layer after a ReLU and a positive score: there the package ablates to 0 and keeps the sign."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    best = int(resnet(images).argmax())
    ours = explain(resnet, images, method, target=best, layer="layer1")
    assert float(ours.score[0]) > 0
    package = getattr(pytorch_grad_cam, name)(resnet.module, [resnet.module.layer1])
    theirs = package(images, [ClassifierOutputTarget(best)])
    expected = scale_cam_image(scale_cam_image(ours.values.relu().numpy(), (64, 64)))
    torch.testing.assert_close(torch.from_numpy(theirs), torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_batch_equals_loop_and_the_batch_size_does_not_matter(method, clf, x):
    whole = explain(clf, x, method, target=torch.tensor([1, 4])).values
    for i, at in enumerate((1, 4)):
        alone = explain(clf, x[i : i + 1], method, target=at, batch=5).values
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_contrast_and_callable(method, cnn, x):
    """Drops are linear in the score, so that a contrast is the map of the difference of logits."""
    both = explain(cnn, x, method, target=[1, 4]).values
    versus = contrast(cnn, x, method, 1, 4).values
    torch.testing.assert_close(versus, both[:, 0] - both[:, 1])
    if method == "ablationcam":
        own = explain(cnn, x, method, target=lambda logits: logits[:, 1] - logits[:, 4])
        torch.testing.assert_close(versus, own.values, rtol=1e-4, atol=1e-6)


class Fragile(nn.Module):
    """Raises in the middle of the network from the n-th run on."""

    def __init__(self, cnn: nn.Module) -> None:
        super().__init__()
        self.stem, self.fc, self.runs, self.limit = cnn.stem, cnn.fc, 0, 10**9

    def forward(self, x):
        features = self.stem(x)
        self.runs += 1
        if self.runs > self.limit:
            raise ArithmeticError("broken")
        return self.fc(features.mean((2, 3)))


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_the_layer_is_put_back_when_the_model_raises(method, after, cnn, x):
    clf = Classifier(Fragile(cnn.module), "fragile", cnn.transform)
    explain(clf, x[:1], "gradcam")  # the study of the model is done
    before = dict(clf.module.named_modules())
    clf.module.limit = clf.module.runs + after
    with pytest.raises(ArithmeticError, match="broken"):
        explain(clf, x, method, batch=2)
    assert dict(clf.module.named_modules()) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in before.values())


def test_no_progress_bars(cnn, x, capsys):
    explain(cnn, x, "scorecam")
    explain(cnn, x, "ablationcam")
    assert capsys.readouterr() == ("", "")
