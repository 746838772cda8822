"""The temporal stability of a video's faces as a table."""
from __future__ import annotations

from Evaluation.metrics.stability import Stability
from Evaluation.reports.tables import Table


def stability_table(rows: list[tuple[str, Stability]], title: str = "Temporal stability") -> Table:
    """One row per (name, numbers); UV in % of the UV square, other lengths in % of the face's size."""
    columns = ("", "found, %", "error, %", "jitter, %", "sigma, %", "lag, ms", "UV jitter, %", "UV sigma, %")
    return Table(title, columns, [(name, 100 * row.found, *row[1:]) for name, row in rows], digits=3)
