"""Parameters, GMACs, latency and memory.

examples:
  vizlib cost zoo/vit zoo/seresnet
  vizlib cost timm/vit_small_patch16_224 --weights random --batch 8 --dtype bfloat16
  vizlib cost timm/resnet50 --weights random --input-size 384
"""

from __future__ import annotations

import argparse
from typing import Any

from vizlib.commands import options, outputs
from vizlib.commands.inputs import how, loaded


def add(parser: argparse.ArgumentParser) -> None:
    options.models(parser)
    parser.add_argument("--batch", type=int, default=1, help="photographs per forward; default: 1")
    options.loading(parser)


def run(arguments: argparse.Namespace) -> int:
    models = loaded(arguments.models, how(arguments.models, arguments))
    import pandas as pd

    from vizlib.measure.cost import cost

    found = [_line(name, cost(models[name], batch=arguments.batch)) for name in outputs.progress(list(models), "cost")]
    print(pd.DataFrame(found).to_string(index=False))
    return 0


def _line(name: str, found: Any) -> dict[str, str]:
    return {
        "model": name,
        "parameters": f"{found.params:,}",
        "GMACs": f"{found.gmacs:.3f}",
        "attention": f"{found.attention_share:.1%}",
        "latency ms (p10, median, p90)": ", ".join(f"{t:.1f}" for t in found.latency_ms),
        "images/s": f"{found.images_per_s:.1f}",
        "peak MB": f"{found.peak_mb:.1f}",
        "kept for backward MB": f"{found.activation_mb:.1f}",
        "device": found.device,
    }
