"""The error against the number of images as a table."""
from __future__ import annotations

from Evaluation.metrics.curve import Curve, interval
from Evaluation.reports.tables import Table

COLUMNS = ("images", "network", "mean of singles", "difference", "low", "high", "constant baseline")


def curve_table(curve: Curve, title: str) -> Table:
    """One row per number of images. The difference is network minus mean of singles: below 0 the network is better."""
    rows = []
    for t in range(curve.recurrent.shape[1]):
        mean, low, high = interval(curve.recurrent[:, t] - curve.singles[:, t])
        rows.append((t + 1, float(curve.recurrent[:, t].mean()), float(curve.singles[:, t].mean()), mean, low, high,
                     float(curve.floor.mean())))
    note = (f"mean distance, point to point after a similarity, % of the ground truth's diagonal; "
            f"{len(curve.floor)} subjects; low, high: 95 % bootstrap interval of the difference over subjects")
    return Table(title, COLUMNS, rows, (note,), digits=4)
