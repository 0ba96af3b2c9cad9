"""Parameters, GMACs, latency and memory.

Several models run in turns, so that a busy machine disturbs all alike; each latency is also given as a ratio to the
first.

examples:
  vizlib cost zoo/vit zoo/seresnet
  vizlib cost zoo/vit --modules --depth 2
  vizlib cost timm/vit_small_patch16_224 --weights random --batch 8 --dtype bfloat16
  vizlib cost timm/resnet50 --weights random --input-size 384
  vizlib cost --published
"""

from __future__ import annotations

import argparse
from typing import Any

from vizlib.commands import options, outputs
from vizlib.commands.inputs import how, loaded


def add(parser: argparse.ArgumentParser) -> None:
    options.models(parser, "*")
    parser.add_argument("--batch", type=int, default=1, help="photographs per forward; default: 1")
    parser.add_argument("--modules", action="store_true", help="also what each module takes part in")
    parser.add_argument("--depth", type=int, default=2, help="of modules within modules; default: %(default)s")
    parser.add_argument("--published", action="store_true", help="published GMACs beside those counted here; no model")
    options.loading(parser)


def run(arguments: argparse.Namespace) -> int:
    if bool(arguments.models) == arguments.published:
        raise ValueError("a model or --published is needed, and not both. Try vizlib cost zoo/vit.")
    print(_published() if arguments.published else _measured(arguments))
    return 0


def _measured(arguments: argparse.Namespace) -> str:
    models = loaded(arguments.models, how(arguments.models, arguments))
    import pandas as pd

    from vizlib.measure.cost import MODULE_FORMATS, cost, ratios

    batch, several = arguments.batch, len(models) > 1
    seconds = 0.0 if several else 1.0  # several are timed again below, in turns
    found = {name: cost(models[name], batch=batch, seconds=seconds) for name in outputs.progress(list(models), "cost")}
    if several:
        speeds = [_in_turns(turn, batch) for turn in ratios(list(models.values()), batch=batch).itertuples()]
    else:
        speeds = [_alone(each) for each in found.values()]
    lines = [_line(name, each, speed) for (name, each), speed in zip(found.items(), speeds, strict=True)]
    parts = [pd.DataFrame(lines).to_string(index=False)]
    if arguments.modules:
        for name, each in found.items():
            rows = each.modules[each.modules["depth"] <= arguments.depth].drop(columns="depth")
            rows["module"] = rows["module"].replace("", "(all)")
            parts.append(f"{name}\n{rows.to_string(index=False, formatters=MODULE_FORMATS)}")
    return "\n\n".join(parts)


def _line(name: str, found: Any, speed: dict[str, str]) -> dict[str, str]:
    return {
        "model": name,
        "parameters": f"{found.params:,}",
        "GMACs": f"{found.gmacs:.3f}",
        "attention": f"{found.attention_share:.1%}",
        **speed,
        "peak MB": f"{found.peak_mb:.1f}",
        "kept for backward MB": f"{found.activation_mb:.1f}",
        "device": found.device,
    }


def _alone(found: Any) -> dict[str, str]:
    latency = ", ".join(f"{t:.1f}" for t in found.latency_ms)
    return {"latency ms (p10, median, p90)": latency, "images/s": f"{found.images_per_s:.1f}"}


def _in_turns(turn: Any, batch: int) -> dict[str, str]:
    return {
        "latency ms": f"{turn.latency_ms:.1f}",
        "times the first (p10, p90)": f"{turn.ratio:.2f} ({turn.p10:.2f}, {turn.p90:.2f})",
        "images/s": f"{1e3 * batch / turn.latency_ms:.1f}",
    }


def _published() -> str:
    from vizlib.measure.claims.gmacs import published, readable

    return readable(published()).to_string(index=False)
