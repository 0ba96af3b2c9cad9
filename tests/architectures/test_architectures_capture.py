"""Every architecture is looked into by the same mechanism as any other classifier, also where it is not square."""

from __future__ import annotations

import pytest
import tiny
import torch
from architectures.small import FIXED, SMALL
from families.checks import CHECKS
from families.subject import prepare
from torch import Tensor

from vizlib.capture.anatomy import study
from vizlib.capture.trace import trace
from vizlib.explore.summary import summary
from vizlib.methods.table import explain
from vizlib.models.architectures.cswin import CSWin
from vizlib.models.architectures.lv_vit import LVViT
from vizlib.tokens import PADDING

# (architecture, cell of the check) -> why it may be missed
MISSED = {
    ("vit_linformer", "rollout"): "the implied weights are of both signs, no shares of any mass",
    ("dynamic_vit", "places"): "photographs keep patches of their own; tests/capture holds them against the model",
    ("dynamic_vit", "attention"): "its keep decisions are softmaxes that no value meets",
}
FOUND = {  # operations of attention, gates
    "cswin": ("7", ""), "t2t_performer": ("4", ""), "t2t_transformer": ("4", ""), "lv_vit": ("2", ""),
    "dynamic_vit": (None, ""), "mobilevit_v3": ("3", ""), "cbam_resnet": ("", "8"), "bam_resnet": ("", "3"),
    "hybrid": ("1", ""), "vit_exact": ("2", ""), "vit_linformer": ("2", ""), "vit_performer": ("2", ""),
    "vit_bigbird": ("2", ""),
}  # fmt: skip
WIDE = ("mobilevit_v3", "hybrid")  # of 32 pixels a cell: with less than 4 × 6 of them, a cell sees everything


@pytest.mark.parametrize("name", SMALL)
def test_maps_places_attention_rollout_and_gates(name):
    torch.manual_seed(0)
    size = (64, 64) if name in FIXED else (128, 192) if name in WIDE else (64, 96)
    subject = prepare(SMALL[name](), name, size)
    found = {cell: check(subject) for cell, check in CHECKS.items() if (name, cell) not in MISSED}
    attention, gates = FOUND[name]
    assert found.get("attention") == attention
    assert found["gates"] == gates
    if attention:
        assert ("rollout" in found) == ((name, "rollout") not in MISSED)


def stripes(grid: tuple[int, int], width: int, down: bool) -> Tensor:
    """The closed formula: stripe g holds rows or columns g·width … of the grid, row by row; -1 beyond its edge."""
    r, s = grid
    groups = []
    for start in range(0, s if down else r, width):
        rows = range(r) if down else range(start, start + width)
        columns = range(start, start + width) if down else range(s)
        groups.append([i * s + j if i < r and j < s else PADDING for i in rows for j in columns])
    return torch.tensor(groups)


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_cswins_stripes_have_the_places_of_the_closed_formula(size):
    model = CSWin(8, (1, 2, 1, 1), (2, 2, 2, 4), stripes=(1, 3, 7), num_classes=tiny.CLASSES)
    sites = study(tiny.classifier(model, size), tiny.images(1, size)).named()
    for stage, width in ((1, 1), (2, 3), (3, 7)):
        grid = tuple(n // 2 ** (stage + 1) for n in size)
        for half, down in ((0, True), (1, False)):
            for block in range(2 if stage == 2 else 1):
                site = sites[f"stage{stage}.{block}.attns.{half}"]
                want = stripes(grid, width, down)
                assert site.keys.grid == grid
                assert torch.equal(site.keys.index[0], want)
                assert torch.equal(site.queries.index[0], want)
    last = sites["stage4.0.attns.0"].keys
    assert torch.equal(last.index[0, 0], torch.arange(last.grid[0] * last.grid[1]))


def test_the_dense_head_of_lv_vit_is_a_map_of_its_own():
    model = LVViT(24, 2, 3, num_classes=tiny.CLASSES, image_size=64)
    clf, x = tiny.classifier(model, (64, 96)), tiny.images(2, (64, 96))
    kept: list[Tensor] = []
    hook = model.aux_head.register_forward_hook(lambda m, args, out: kept.append(out))
    clf(x)
    hook.remove()
    run = trace(clf, x)
    assert "scores of the classes at every patch: aux_head" in str(summary(clf))
    torch.testing.assert_close(run.dense, kept[0].transpose(1, 2).unflatten(2, (4, 6)))
    heat = run.class_map(3)
    torch.testing.assert_close(heat.values, kept[0][..., 3].unflatten(1, (4, 6)))
    torch.testing.assert_close(heat.score, run.logits[:, 3])
    own = run.class_map()  # of each photograph's predicted class
    for photo, best in enumerate(run.logits.argmax(1).tolist()):
        torch.testing.assert_close(own.values[photo], run.dense[photo, best])
        assert own.labels[photo] == tiny.LABELS[best]
    with pytest.raises(ValueError, match="from 0 to 4 is needed; got 5"):
        run.class_map(5)
    with pytest.raises(ValueError, match=r"tiny has none.*gradcam"):
        trace(tiny.classifier(tiny.vit()), tiny.images()).class_map()


def test_grad_cam_of_lv_vit_covers_the_image_and_hears_both_heads():
    model = LVViT(24, 3, 3, num_classes=tiny.CLASSES, image_size=64)
    clf, x = tiny.classifier(model, 64), tiny.images(2, 64)
    heat = explain(clf, x, "layercam", target=1)  # cell by cell: through the dense head alone, one cell would be left
    assert heat.layer == "blocks.2.norm1"
    assert (heat.values != 0).all()
    both = explain(clf, x, "gradcam", target=1).values
    with torch.no_grad():
        model.head.weight.zero_()
    assert not torch.allclose(explain(clf, x, "gradcam", target=1).values, both)


@pytest.mark.parametrize("name", ["cbam_resnet", "bam_resnet"])
def test_gates_hold_what_multiplies_the_features(name):
    clf, x = tiny.classifier(SMALL[name](), 64), tiny.images(2, 64)
    passed: dict[str, tuple[Tensor, Tensor]] = {}
    run = trace(clf, x)
    for path in run.gates:
        clf.module.get_submodule(path).register_forward_hook(
            lambda m, args, out, path=path: passed.update({path: (args[0], out)})
        )
    clf(x)
    for path, gate in run.gates.items():
        before, after = passed[path]
        torch.testing.assert_close(before * gate.values, after, atol=1e-5, rtol=1e-4)
        assert gate.kind == ("full" if name == "bam_resnet" else "channel" if "Channel" in path else "spatial")
