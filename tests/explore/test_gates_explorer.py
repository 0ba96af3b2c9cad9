"""What the gates widget sends to the browser."""

from __future__ import annotations

import numpy as np
import pytest

import vizlib as vl


@pytest.fixture(scope="module")
def widget():
    photos = {"espresso": [vl.data.photo("coffee")], "tabby_cat": [vl.data.photo("cat")] * 2}
    return vl.gates_explorer("zoo/seresnet", photos)


def test_the_bytes_are_the_raw_gates(widget):
    gates = vl.trace(vl.load("zoo/seresnet"), vl.data.photo("cat")).gates
    assert [layer["name"] for layer in widget.state["channel"]] == list(gates)
    for layer, gate in zip(widget.state["channel"], gates.values(), strict=True):
        values = np.frombuffer(layer["values"], "<f4").reshape(3, *layer["shape"])
        np.testing.assert_allclose(values[1], gate.values.flatten(), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(values[1], values[2])
        assert (layer["low"], layer["high"]) == (values.min(), values.max())


def test_every_photograph_is_there_with_its_class(widget):
    assert widget.state["classes"] == ["espresso", "tabby_cat", "tabby_cat"]
    assert len(widget.state["images"]) == len(widget.state["predicted"]) == 3
    assert widget.state["spatial"] == []
    assert widget.survey.means("stages.2.1.attn_last").index.tolist() == ["espresso", "tabby_cat"]
