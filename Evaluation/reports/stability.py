"""The temporal stability of a video's faces as a table."""
from __future__ import annotations

from Evaluation.metrics.stability import Stability
from Evaluation.reports.tables import Table


def stability_table(rows: list[tuple[str, Stability]], title: str = "Temporal stability") -> Table:
    """A table with a row for each (name, numbers); UV in % of the atlas's side, all else in % of the face."""
    columns = ("", "found, %", "error, %", "jitter, %", "spread, %", "lag, ms", "UV jitter, %", "UV spread, %")
    return Table(title, columns, [(name, 100 * row.found, *row[1:]) for name, row in rows], digits=3)
