"""Drawings are held against what they draw: the arrays, limits, colours and texts of their axes."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import tiny
import torch

from vizlib.capture.trace import trace
from vizlib.show import plot
from vizlib.show.colour import scale_of, table
from vizlib.types import Gate, Heatmap, Trace

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def heatmap(values, *, blind=False, method="gradcam", image=None):
    values = torch.as_tensor(values, dtype=torch.float32)
    image = torch.rand(len(values), 3, 8, 16) if image is None else image
    about = {} if blind else {
        "target": torch.full((len(values),), 3),
        "score": torch.full((len(values),), 4.256),
        "labels": ("tabby_cat",) * len(values),
    }  # fmt: skip
    return Heatmap(values, image, method, "zoo/vit", unit="logits", **about)


def test_overlay_draws_the_raw_values_over_the_whole_photograph():
    heat = heatmap([[[1.0, 2.0, 0.0], [5.0, 0.5, 7.0]], [[0.0, 1.0, 2.0], [3.0, 4.0, 11.0]]])
    ax = plot.overlay(heat, 1)
    photo, drawn = ax.images
    assert photo.get_array().shape == (8, 16, 3)
    assert torch.equal(torch.tensor(drawn.get_array()), heat.values[1])
    assert drawn.get_extent() == photo.get_extent() == [0, 1, 1, 0]
    assert drawn.get_clim() == (0, 11)
    assert ax.get_aspect() == 0.5  # 8 rows to 16 columns


def test_the_photograph_is_grey_by_luminance_unless_asked_for_in_colour():
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1
    heat = heatmap(torch.rand(1, 2, 2), image=red)
    grey = plot.overlay(heat).images[0].get_array()[0, 0].tolist()
    assert grey == pytest.approx([0.299] * 3)
    assert plot.overlay(heat, colour=True).images[0].get_array()[0, 0].tolist() == [1, 0, 0]


def test_signed_maps_diverge_round_zero_and_others_start_there():
    signed = plot.overlay(heatmap([[[-1.0, 3.0]]])).images[1]
    assert (signed.get_clim(), signed.get_cmap().name) == ((-3, 3), "RdBu_r")
    plain = plot.overlay(heatmap([[[1.0, 3.0]]])).images[1]
    assert (plain.get_clim(), plain.get_cmap().name) == ((0, 3), "inferno")
    spread = plot.overlay(heatmap([[[1.0, 3.0]]]), scale="range").images[1]
    assert spread.get_clim() == (1, 3)
    asked = plot.contrast(heatmap([[[1.0, 3.0]]])).images[1]
    assert (asked.get_clim(), asked.get_cmap().name) == ((-3, 3), "RdBu_r")


def test_maps_of_a_method_are_coloured_alike():
    maps = [heatmap([[[-1.0, 3.0]]]), heatmap([[[1.0, 3.0]]]), heatmap([[[1.0, 3.0]]], method="rollout")]
    images = [axes.images[1] for axes in plot.grid([[cell] for cell in maps])[:, 1]]
    assert [image.get_cmap().name for image in images] == ["RdBu_r", "RdBu_r", "inferno"]
    assert [image.get_clim() for image in images] == [(-3, 3), (-3, 3), (0, 3)]


def test_the_title_names_model_method_class_and_score():
    title = plot.overlay(heatmap([[[0.0, 1.0]]])).get_title()
    assert title == "zoo/vit · gradcam\ntabby_cat · logit 4.26"
    assert "class-blind" in plot.overlay(heatmap([[[0.0, 1.0]]], blind=True)).get_title()


def test_several_targets_each_have_their_name_and_map():
    heat = heatmap(torch.tensor([[[[0.0, 1.0]], [[2.0, 3.0]]]]))
    heat = Heatmap(**vars(heat) | {
        "target": torch.tensor([[3, 4]]), "score": torch.tensor([[1.0, 2.0]]), "labels": ("lion | pizza",)
    })  # fmt: skip
    ax = plot.overlay(heat, target=1)
    assert ax.get_title().endswith("pizza · logit 2.00")
    assert ax.images[1].get_array().tolist() == [[2, 3]]


def test_the_colour_bar_has_numbers_and_the_unit():
    ax = plot.overlay(heatmap([[[0.0, 0.02]]]))
    (bar,) = ax.child_axes
    ax.figure.canvas.draw()
    assert bar.get_ylabel() == "logits"
    assert "0.02" in [tick.get_text() for tick in bar.get_yticklabels()]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        plot.overlay(heatmap([[[0.0, bad]]]))


def test_a_photograph_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="got photo 2"):
        plot.overlay(heatmap(torch.rand(2, 2, 2)), 2)


def test_limits_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match="smaller and a larger"):
        scale_of(torch.rand(2, 2), (3.0, 1.0))


def test_grid_draws_maps_reasons_and_names():
    one, nine, two = (heatmap([[[0.0, high]]]) for high in (1.0, 9.0, 2.0))
    maps = [[one, "it has no attention"], [nine, two]]
    axes = plot.grid(maps, columns=["gradcam", "rollout"], rows=["a", "b"])
    assert axes.shape == (2, 3)
    assert axes[0, 1].images[1].get_array().tolist() == [[0, 1]]
    assert axes[1, 1].images[1].get_clim() == (0, 9)
    assert not axes[0, 2].images
    assert "no attention" in axes[0, 2].texts[0].get_text().replace("\n", " ")
    assert [axes[i, 0].get_ylabel() for i in range(2)] == ["a", "b"]
    assert [ax.texts[-1].get_text() for ax in axes[0, 1:]] == ["gradcam", "rollout"]
    shared = plot.grid(maps, shared=True)
    assert shared[0, 1].images[1].get_clim() == shared[1, 1].images[1].get_clim() == (0, 9)


def test_a_grid_without_any_map_is_refused():
    with pytest.raises(ValueError, match="at least one map"):
        plot.grid([["no", "no"]])


def test_a_thing_of_another_kind_is_told_with_what_to_pass():
    run = trace(tiny.classifier(tiny.vit()), tiny.images(1))
    one = heatmap([[[1.0, 2.0]]])
    names = r"Attention; got Trace\. Pass .*attentions\[NAME\], one of: blocks\.0\.attn, blocks\.1\.attn\.$"
    for call, message in (
        (lambda: plot.heads(run), names),
        (lambda: plot.query(run, (0.5, 0.5)), names),
        (lambda: plot.heads(run.attentions), "Attention; got Named"),
        (lambda: plot.overlay([one]), r"Heatmap; got list\. Pass what vl\.explain returns"),
        (lambda: plot.contrast(run), r"Heatmap; got Trace\. Pass what vl\.contrast.*one of its list\.$"),
        (lambda: plot.gates(one), "Trace; got Heatmap"),
        (lambda: plot.grid(one), "a list of maps per model"),
        (lambda: plot.grid([one, one]), "a list of maps per model"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_heads_share_a_scale_and_show_each_head_of_the_class_token():
    run = trace(tiny.classifier(tiny.vit()), tiny.images(1))
    attention = run.attentions["blocks.1.attn"]
    axes = plot.heads(attention)
    expected = attention.weights()[0, 0, :, 0, 1:].unflatten(-1, (4, 4))  # the class token's row, patches
    drawn = torch.stack([torch.tensor(ax.images[1].get_array()) for ax in axes[:3]])
    torch.testing.assert_close(drawn, expected)
    limits = {ax.images[1].get_clim() for ax in axes[:3]}
    assert len(limits) == 1
    assert limits.pop() == (0, pytest.approx(float(expected.max())))


def test_query_shows_the_row_of_the_patch_and_marks_it():
    run = trace(tiny.classifier(tiny.vit()), tiny.images(1))
    attention = run.attentions["blocks.0.attn"]
    ax = plot.query(attention, (0.9, 0.1), head=2)
    patch = 1 + 3 * 4 + 0  # behind the class token: last row, first column of 4 × 4
    expected = attention.weights()[0, 0, 2, patch, 1:].unflatten(-1, (4, 4))
    torch.testing.assert_close(torch.tensor(ax.images[1].get_array()), expected)
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[0.1, 0.9]]] * 2


def gated(**gates):
    named = {name: Gate(name, kind, values, "sigmoid") for name, (kind, values) in gates.items()}
    image = torch.rand(1, 3, 8, 8)
    return Trace(image, image, torch.zeros(1, 5), torch.tensor([0]), "tiny", gates=named)


def test_gates_are_strips_bars_and_maps_of_their_values():
    channel, spatial = torch.rand(1, 5, 1, 1), torch.rand(1, 1, 4, 4)
    run = gated(se=("channel", channel), cbam=("spatial", spatial))
    strip, place = plot.gates(run)
    assert torch.equal(torch.tensor(strip.images[0].get_array()), channel.view(1, 5))
    assert strip.images[0].get_clim() == (0, 1)
    assert torch.equal(torch.tensor(place.images[1].get_array()), spatial[0, 0])
    bars = plot.gates(run, style="bars")[0]
    heights = [patch.get_height() for patch in bars.patches]
    assert heights == pytest.approx(sorted(channel.flatten().tolist(), reverse=True))


def test_a_model_without_gates_is_refused():
    with pytest.raises(ValueError, match="gates"):
        plot.gates(gated())


def test_axes_that_are_given_are_drawn_into():
    _, (left, right) = plt.subplots(1, 2)
    assert plot.overlay(heatmap([[[0.0, 1.0]]]), ax=right) is right
    assert not left.images
    assert len(plt.get_fignums()) == 1


def test_the_colour_table_is_the_colour_map():
    bytes_ = table("inferno")
    assert len(bytes_) == 768
    for shade in (0, 100, 255):
        expected = [255 * part for part in matplotlib.colormaps["inferno"](shade)[:3]]
        assert list(bytes_[3 * shade : 3 * shade + 3]) == pytest.approx(expected, abs=0.5)
