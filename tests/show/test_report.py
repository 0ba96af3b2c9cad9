"""The saved page: whole in one file, names escaped, raw values inside."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from vizlib.show.report import Row, Sheet, page
from vizlib.types import Heatmap

NASTY = "</script><script>alert('x')</script>&\""


@pytest.fixture
def values():
    return torch.tensor([[[0.25, -1.5, 3.0], [1e-6, 0.0, 2.0]]])


@pytest.fixture
def text(values):
    image = torch.rand(3, 6, 9)
    one, score = torch.tensor([1]), torch.tensor([2.0])
    heat = Heatmap(values, image[None], "gradcam", NASTY, one, score, labels=(NASTY,))
    blind = Heatmap(values.abs(), image[None], "rollout", NASTY)
    row = Row(NASTY, NASTY, image, image, ((NASTY, 0.75),), (heat, blind, NASTY), NASTY)
    return page([Sheet(NASTY, ("gradcam", "rollout", NASTY), (row,), NASTY)], "<table></table>", NASTY)


def state_of(text):
    return json.loads(re.search(r'id="vl-state">(.*?)</script>', text, re.S).group(1))


def test_the_page_holds_the_raw_values(text, values):
    gradcam, rollout = state_of(text)["cells"]
    numbers = np.frombuffer(base64.b64decode(gradcam["values"]), "<f4").reshape(gradcam["shape"])
    assert np.array_equal(numbers, values[0].numpy())
    assert (gradcam["signed"], gradcam["low"], gradcam["high"]) == (True, -1.5, 3.0)
    assert rollout["signed"] is False


def test_nothing_a_name_holds_becomes_markup(text):
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert text.count("</script>") == 2  # the state's and the module's


def test_the_page_needs_no_other_file(text):
    outside = re.findall(r'(?:src|href)="(?!data:)([^"]*)"|url\(([^)]*)\)|\bimport\s|@import', text)
    assert outside == []
    assert "http" not in text


def test_the_photograph_is_inside(text):
    (address,) = set(re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text))
    assert Image.open(io.BytesIO(base64.b64decode(address))).size == (9, 6)


def test_reasons_and_class_blindness_are_said(text):
    assert text.count('class="vl-reason"') == 1
    assert "class-blind" in text
    assert "75%" in text
