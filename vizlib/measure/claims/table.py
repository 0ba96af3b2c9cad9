"""The claims with what was found and a verdict: the table of data/claims.csv.

python -m vizlib.measure.claims.table data/claims.csv
"""

from __future__ import annotations

import sys
from importlib.resources import files

import pandas as pd
from tqdm import tqdm

from vizlib.measure.claims import accuracy, cost, mechanism
from vizlib.measure.claims.evidence import Claim

CLAIMS: tuple[Claim, ...] = tuple(
    sorted((*accuracy.CLAIMS, *cost.CLAIMS, *mechanism.CLAIMS), key=lambda claim: claim.id)
)


def check(claims: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """Every claim looked into now: `id`, `claim`, `found`, `source`, `verdict`, `reason`; a minute or two for all."""
    rows = []
    for claim in tqdm(claims, desc="claims", disable=None, leave=False):
        finding = claim.check()
        rows.append((claim.id, claim.text, finding.found, finding.source, finding.verdict, finding.reason))
    return pd.DataFrame(rows, columns=["id", "claim", "found", "source", "verdict", "reason"])


def claims() -> pd.DataFrame:
    """The table as it was stored."""
    with files("vizlib.tables").joinpath("claims.csv").open("r", encoding="utf-8") as file:
        return pd.read_csv(file)


if __name__ == "__main__":
    check().to_csv(sys.argv[1], index=False, lineterminator="\n")
