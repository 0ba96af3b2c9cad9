"""The registry: sizes, names, errors."""

import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vizlib.models.architectures.registry import architectures, build

# Counted by instantiating the authors' published code: parameters, and 10⁹ multiplications at 224 pixels.
AUTHORS = {
    "cswin_t": (22_320_552, 4.324),
    "cswin_s": (34_643_304, 6.801),
    "cswin_b": (77_382_184, 14.955),
    "t2t_vit_7": (4_310_222, 1.147),
    "t2t_vit_14": (21_545_550, 4.783),
    "t2t_vit_t_14": (21_541_070, 6.089),
    "lvvit_t": (8_534_720, 2.868),
    "lvvit_s": (26_151_824, 6.551),
    "dynamicvit_deit_s_07": (22_774_414, 2.981),
    "resnet18_cbam": (11_779_392, 1.815),
    "resnet50_cbam": (28_089_624, 4.096),
    "resnet18_bam": (11_712_503, 1.819),
    "resnet50_bam": (25_915_099, 4.171),
}
# The MobileViTv3 paper (arXiv 2209.15159): 10⁶ parameters.
PAPER = {"mobilevitv3_xxs": 1.25, "mobilevitv3_xs": 2.5, "mobilevitv3_s": 5.8}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval().requires_grad_(False)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", architectures())
def test_the_table_says_what_is_built(name):
    row, model = architectures()[name], on_meta(name)
    assert count(model) == row.parameters
    photo = torch.zeros(1, 3, row.input_size, row.input_size, device="meta")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        assert model(photo).shape == (1, 1000)
    assert math.isclose(counter.get_total_flops() / 2e9, row.gmacs, rel_tol=0.02)


@pytest.mark.parametrize("name", AUTHORS)
def test_sizes_are_the_authors(name):
    parameters, gmacs = AUTHORS[name]
    row = architectures()[name]
    assert row.parameters == parameters
    assert math.isclose(row.gmacs, gmacs, rel_tol=0.02)


@pytest.mark.parametrize("name", PAPER)
def test_mobilevitv3_has_the_papers_size(name):
    assert round(architectures()[name].parameters / 1e6, 2 if PAPER[name] == 1.25 else 1) == PAPER[name]


def test_fixed_tables_of_t2t_are_not_trained():
    with torch.device("meta"):
        trained = sum(p.numel() for p in build("t2t_vit_7").parameters() if p.requires_grad)
    assert trained == 4_255_694  # the authors' published code


def test_the_table_prints_a_line_each():
    lines = repr(architectures()).splitlines()
    assert len(lines) == len(architectures())
    assert lines[0].split("  ", 1)[0] == "cswin_t"
    about = "22.3 M parameters, 4.32 GMACs, 224 px, top-1 82.8 %; CSWin Transformer, 2021, arXiv 2107.00652"
    assert lines[0].endswith(about)


def test_unknown_name_names_near_ones():
    with pytest.raises(ValueError, match=r"got 'cswin-t'.*cswin_t"):
        build("cswin-t")


def test_options_reach_the_builder():
    assert build("resnet18_cbam", num_classes=7).fc.out_features == 7
