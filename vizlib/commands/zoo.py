"""The small trained classifiers that come with vizlib.

examples:
  vizlib zoo list
  vizlib zoo show vit
"""

from __future__ import annotations

import argparse
from typing import Any


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("list", "show"), help="all members in a table, or the card of some")
    parser.add_argument("models", nargs="*", metavar="NAME", help="members to show")


def run(arguments: argparse.Namespace) -> int:
    import pandas as pd

    from vizlib.models import zoo

    names = arguments.models or zoo.trained()
    if not names:
        raise RuntimeError("a trained member of the zoo is needed; there is none. See: vizlib train --help")
    cards = [zoo.card(name) for name in names]
    if arguments.action == "show":
        print("\n\n".join(map(str, cards)))
        return 0
    print(pd.DataFrame([_line(card) for card in cards]).to_string(index=False))
    untrained = [name for name in zoo.names() if name not in zoo.trained()]
    if untrained:
        print(f"not trained yet: {', '.join(untrained)}")
    return 0


def _line(card: Any) -> dict[str, str]:
    return {
        "name": f"zoo/{card.name}",
        "family": card.family,
        "parameters": f"{card.parameters:,}",
        "GMACs": f"{card.gmacs:.3f}",
        "top-1": f"{card.top1:.1%}",
        "95 % interval": "{:.1f} – {:.1f}".format(*(100 * end for end in card.top1_interval)),
        "top-5": f"{card.top5:.1%}",
        "calibration error": f"{card.ece:.1%}",
    }
