"""See what an image classifier looks at: attention, rollout, Grad-CAM and gates on one picture grid.

    import vizlib as vl
    models = ["zoo/seresnet", "zoo/vit", "zoo/hybrid"]
    vl.compare(models, vl.data.photo("cat"), methods=["gradcam", "rollout"]).show()

The public names are loaded when they are first used, so that `import vizlib` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# name -> where it lives: "module" for the module itself, "module:name" for what is in it
_PUBLIC = {
    "load": "vizlib.models.load:load",
    "architectures": "vizlib.models.architectures.registry:architectures",
    "zoo": "vizlib.models.zoo",
    "data": "vizlib.data",
    "trace": "vizlib.capture.trace:trace",
    "ablate": "vizlib.capture.trace:ablate",
    "hold": "vizlib.capture.hold:hold",
    "explain": "vizlib.methods.table:explain",
    "contrast": "vizlib.methods.table:contrast",
    "METHODS": "vizlib.methods.table:METHODS",
    "dataset": "vizlib.dataset",
    "heads": "vizlib.measure.heads:heads",
    "receptive_field": "vizlib.measure.receptive_field:receptive_field",
    "survey_gates": "vizlib.measure.gates:survey_gates",
    "faithfulness": "vizlib.measure.faithfulness:faithfulness",
    "METRICS": "vizlib.measure.faithfulness:METRICS",
    "sanity": "vizlib.measure.sanity",
    "benchmark": "vizlib.measure.benchmark:benchmark",
    "planted": "vizlib.measure.planted:planted",
    "planted_classifier": "vizlib.measure.planted:planted_classifier",
    "planted_twins": "vizlib.measure.planted:planted_twins",
    "fit": "vizlib.models.fit:fit",
    "cost": "vizlib.measure.cost:cost",
    "compressed": "vizlib.explore.compression:compressed",
    "fewer_heads": "vizlib.explore.fewer_heads:fewer_heads",
    "adapted": "vizlib.explore.adaptation:adapted",
    "to_onnx": "vizlib.models.export:to_onnx",
    "choose": "vizlib.measure.choose:choose",
    "chooser": "vizlib.explore.chooser:chooser",
    "tradeoff": "vizlib.explore.tradeoff:tradeoff",
    "plot": "vizlib.show.plot",
    "summary": "vizlib.explore.summary:summary",
    "compare": "vizlib.explore.compare:compare",
    "hover": "vizlib.explore.hover:hover",
    "explorer": "vizlib.explore.explorer:explorer",
    "debug": "vizlib.explore.debugger:debug",
    "gates_explorer": "vizlib.explore.gates:gates_explorer",
    "Classifier": "vizlib.classifier:Classifier",
    "Heatmap": "vizlib.types:Heatmap",
    "Attention": "vizlib.attention:Attention",
    "Gate": "vizlib.types:Gate",
    "Trace": "vizlib.types:Trace",
    "Cost": "vizlib.measure.cost:Cost",
    "Curve": "vizlib.types:Curve",
    "Score": "vizlib.types:Score",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"vizlib has no {name!r}. It has: {', '.join(_PUBLIC)}.")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = import_module(module)
    globals()[name] = getattr(found, attribute) if attribute else found
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(__all__)
