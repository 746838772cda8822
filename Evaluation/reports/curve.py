"""The error against the number of images as a table."""
from __future__ import annotations

from Evaluation.metrics.curve import Curve, interval
from Evaluation.reports.tables import Table

COLUMNS = ("images", "memory", "mean of singles", "difference", "low", "high", "constant face")


def curve_table(curve: Curve, title: str) -> Table:
    """One row for each number of images; the difference is memory less mean of singles: below 0, memory is better."""
    rows = []
    for t in range(curve.memory.shape[1]):
        mean, low, high = interval(curve.memory[:, t] - curve.singles[:, t])
        rows.append((t + 1, float(curve.memory[:, t].mean()), float(curve.singles[:, t].mean()), mean, low, high,
                     float(curve.floor.mean())))
    note = (f"mean distance, point to point after a similarity, % of the ground truth's diagonal; "
            f"{len(curve.floor)} people; low, high: 95 % bootstrap interval of the difference over people")
    return Table(title, COLUMNS, rows, (note,), digits=4)
