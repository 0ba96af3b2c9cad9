"""Mistakes that are alike, labels that are suspect, photographs that lie close: from the models' own arrays."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vizlib.dataset.results import results_of

LEAST = 6  # mistakes, below which there is nothing to group
PER_GROUP = 12  # mistakes a group has on average
MOST_GROUPS = 24


def label_errors_of(named: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, str]:
    """Labels that the mean probabilities of the models speak against, the worst first, or why there are none.

    The estimate holds for photographs that the models were not trained on.

    Source: Northcutt, Jiang, Chuang 2021, Confident Learning, arXiv 1911.00068 (the cleanlab package).
    """
    columns = ["row", "path", "label", "suggested", "quality"]
    first = next(iter(named.values()))
    labels = first["label_index"].to_numpy()
    if len(np.unique(labels)) < 2:
        return pd.DataFrame(columns=columns), "photographs of two classes are needed"
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        return pd.DataFrame(columns=columns), "cleanlab is not installed: pip install 'vizlib[dataset]'"
    try:
        each = [_probabilities(table, first["path"]) for table in named.values()]
    except ValueError as error:
        return pd.DataFrame(columns=columns), str(error)
    if len({p.shape[1] for p in each}) > 1:
        return pd.DataFrame(columns=columns), "models with the same classes are needed"
    mean = np.mean(each, axis=0)
    mean /= mean.sum(1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes that the data do not have
        order = find_label_issues(labels, mean, return_indices_ranked_by="self_confidence", n_jobs=1)
    names = {int(k): v for t in named.values() for k, v in zip(t["prediction_index"], t["prediction"], strict=True)}
    best = mean.argmax(1)
    found = first.iloc[order][["row", "path", "label"]].assign(
        suggested=[names.get(int(best[i]), f"class {best[i]}") for i in order], quality=mean[order, labels[order]]
    )
    return found.reset_index(drop=True), ""


def _probabilities(table: pd.DataFrame, paths: pd.Series) -> NDArray[np.float32]:
    rows = table.set_index("path").loc[paths, "row"].to_numpy()
    return results_of(table).arrays("probabilities", rows)


def groups_of(named: Mapping[str, pd.DataFrame]) -> tuple[pd.DataFrame, str]:
    """Each model's mistakes in groups of similar features, the largest first, or why there are none."""
    columns = ["model", "name", "photos", "share", "confidence", "rows"]
    try:
        from sklearn.cluster import KMeans
    except ImportError:
        return pd.DataFrame(columns=columns), "scikit-learn is not installed: pip install 'vizlib[dataset]'"
    lines, why = [], f"{LEAST} mistakes of a model are needed"
    for model, table in named.items():
        wrong = table[~table["correct"]]
        if len(wrong) < LEAST:
            continue
        try:
            features = results_of(table).arrays("features", wrong["row"].to_numpy())
        except ValueError as error:
            why = str(error)
            continue
        count = int(np.clip(len(wrong) // PER_GROUP, 2, MOST_GROUPS))
        group = KMeans(count, n_init=4, random_state=0).fit_predict(features)
        for _, members in wrong.groupby(group):
            pairs = (members["label"] + " → " + members["prediction"]).value_counts()
            lines.append([model, pairs.index[0], len(members), pairs.iloc[0] / len(members),
                          members["confidence"].mean(), members["row"].tolist()])  # fmt: skip
    found = pd.DataFrame(lines, columns=columns).sort_values("photos", ascending=False, ignore_index=True)
    return found, "" if lines else why


class Neighbours:
    """Photographs near to one in a model's feature space, by the cosine of their features."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table.reset_index(drop=True)
        self.features = results_of(table).arrays("features", table["row"].to_numpy())

    def of(self, feature: NDArray, count: int = 6, *, without: str = "") -> pd.DataFrame:
        """The nearest photographs to a feature (c,) of the same model, from this table or another.

        Args:
            without: path of a photograph that is left out: its own.

        Returns:
            Rows of the table, nearest first, with their `similarity` in [-1, 1]; the index is the line.
        """
        similarity = self.features @ feature
        similarity[(self.table["path"] == without).to_numpy()] = -np.inf
        best = np.argsort(-similarity, kind="stable")[:count]
        found = self.table.iloc[best].assign(similarity=similarity[best])
        return found[np.isfinite(found["similarity"])]
