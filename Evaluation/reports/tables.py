"""Tables as text, CSV and Markdown; Table 2 of the thesis beside our own numbers."""
from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import numpy as np

from Dataset.io.atomic import all_or_none, write_text
from Evaluation.evaluate_predictions import Results

#: columns of `baseline_rows`
BASELINE = ("metric", "model", "constant baseline", "images", "definition")
Cell = str | int | float | tuple | None
#: Thesis 5.4, Table 2: (data, checkpoint) -> Normalized Mean Error
THESIS_TABLE_2 = {("train", "train"): 0.0034183635, ("train", "validation"): 0.0150208668,
                  ("test", "train"): 0.0258034830, ("test", "validation"): 0.0155522075}
#: of a run folder, by the names of Table 2: its checkpoints, and the parts of the subjects
CHECKPOINTS = {"train": "best_training", "validation": "best_validation"}
SUBJECTS = {"train": "training", "test": "test"}
_DATA = {"train": "Training Data", "test": "Testing Data"}
_CHECKPOINTS = {"train": "Training Model", "validation": "Validation Model"}


class Table(NamedTuple):
    """A title, column headings, rows of cells (str, int, float, tuple; None and NaN print as "-"), and notes.

    Floats print with `digits` decimals; CSV has full precision. Every writer raises ValueError when a row has another
    number of cells than there are columns.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    digits: int = 6

    def text(self) -> str:
        """Aligned columns for a terminal; numbers to the right."""
        cells = [list(self.columns), *self._formatted()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        right = self._numeric()
        lines = ["  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)).rstrip()
                 for row in cells]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule, *self.notes]) + "\n"

    def csv(self) -> str:
        """RFC 4180 with \\n line ends: headings and rows, full precision, no title and no notes; missing cells are
        empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        self._check()
        writer.writerow(self.columns)
        for row in self.rows:
            writer.writerow(["" if _missing(c) else repr(float(c)) if isinstance(c, float) else _plain(c) for c in row])
        return out.getvalue()

    def markdown(self) -> str:
        """A GitHub table, aligned in the source, too; pipes and line ends in cells are escaped."""
        cells = [[_escape(c) for c in row] for row in [list(self.columns), *self._formatted()]]
        widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(self.columns))]
        right = self._numeric()
        lines = ["| " + " | ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right)) + " |"
                 for row in cells]
        rule = "|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right)) + "|"
        notes = ["", *(f"- {_escape(note)}" for note in self.notes)] if self.notes else []
        return "\n".join([f"**{self.title}**", "", lines[0], rule, *lines[1:], *notes]) + "\n"

    def write(self, stem: str | os.PathLike[str]) -> list[Path]:
        """Write STEM.txt, STEM.csv and STEM.md, which appear together; return the paths."""
        stem = Path(stem)
        if stem.suffix in (".txt", ".csv", ".md"):      # the thesis's results file has an ending
            stem = stem.with_suffix("")
        contents = {".txt": self.text(), ".csv": self.csv(), ".md": self.markdown()}
        paths = [stem.with_name(stem.name + ending) for ending in contents]
        with all_or_none():
            for path, content in zip(paths, contents.values()):
                write_text(path, content)
        return paths

    def _check(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.title!r}: want {len(self.columns)} cells a row, "
                                 f"got {len(row)} in row {i}")

    def _formatted(self) -> list[list[str]]:
        self._check()
        return [["-" if _missing(c) else f"{c:.{self.digits}f}" if isinstance(c, float) else _plain(c) for c in row]
                for row in self.rows]

    def _numeric(self) -> list[bool]:
        """Per column: whether all cells that are not missing are numbers."""
        return [any(not _missing(row[i]) for row in self.rows)
                and all(_missing(row[i]) or (isinstance(row[i], (int, float)) and not isinstance(row[i], bool))
                        for row in self.rows) for i in range(len(self.columns))]


def table2(results: Mapping[tuple[str, str], Mapping[str, float]], dataset: str,
           definitions: Mapping[str, str] | None = None, notes: Sequence[str] = ()) -> Table:
    """The thesis's Table 2 and our numbers: both checkpoints on training and testing data.

    results      (data "train"|"test", checkpoint "train"|"validation") -> {metric: mean}; "nme" stands next
                 to the thesis's number, other metrics have rows of their own; missing pairs print as "-"
    dataset      its name, printed in the title: the thesis's numbers are BU-4DFE's
    definitions  metric -> text, printed as notes
    """
    unknown = [key for key in results if key not in THESIS_TABLE_2]
    if unknown:
        raise ValueError("table 2: want keys (train or test data, train or validation checkpoint), "
                         f"got {unknown[0]!r}")
    names = list(dict.fromkeys(["nme", *(name for means in results.values() for name in means)]))
    rows: list[list[Cell]] = []
    for name in names:
        for data, label in _DATA.items():
            values = [results.get((data, checkpoint), {}).get(name) for checkpoint in _CHECKPOINTS]
            rows.append([label, name, f"ours, {dataset}", *(v if v is None else float(v) for v in values)])
            if name == "nme":
                rows.append([label, name, "thesis, BU-4DFE", *(THESIS_TABLE_2[data, c] for c in _CHECKPOINTS)])
    text = [f"Ours ran on: {dataset}. The thesis's four numbers are from its own BU-4DFE split (item 0 of each batch)."]
    text += [f"{name}: {definition}" for name, definition in (definitions or {}).items() if name in names]
    return Table(f"Table 2: normalised mean error of both checkpoints ({dataset})",
                 ["data", "metric", "source", *_CHECKPOINTS.values()], rows, [*text, *notes], digits=10)


def layer_table(rows: Sequence[Sequence[Cell]], columns: Sequence[str], notes: Sequence[str]) -> Table:
    """Table 1 of the thesis, from the rows that describe the built network."""
    return Table("Table 1: architecture of the network", columns, rows, notes)


def about(results: Mapping[Any, Results]) -> tuple[dict[str, str], list[str]]:
    """(definitions of the metrics, notes on skipped samples) of several cells of a table."""
    definitions = next((dict(result.definitions) for result in results.values()), {})
    return definitions, [f"{'/'.join(map(str, key))}: skipped {name}: {reason}"
                         for key, result in results.items() for name, reason in result.skipped]


def score_table(results: Results, where: str) -> Table:
    """One row per metric of `evaluate_predictions.score_batches`: its mean, over how many samples, what it means."""
    rows: list[list[Cell]] = [[name, float(mean), results.counts[name], results.definitions[name]]
                              for name, mean in results.means.items()]
    return Table(where, ["metric", "mean", "samples", "definition"], rows,
                 [f"skipped {name}: {reason}" for name, reason in results.skipped], digits=10)


def baseline_rows(ours: Sequence[Mapping[str, float]], baseline: Sequence[Mapping[str, float]],
                  definitions: Mapping[str, str]) -> list[list[Cell]]:
    """One row per metric of `definitions`: its mean over the images for which the model has it, the constant baseline's
    mean, over how many images, and the definition. ours, baseline: metric -> number, one mapping per image; NaN means
    "not measured". A metric that neither has for any image has no row."""
    rows: list[list[Cell]] = []
    for name, definition in definitions.items():
        mine, other = (np.array([scores[name] for scores in part], np.float64) for part in (ours, baseline))
        known, floor = mine[np.isfinite(mine)], other[np.isfinite(other)]
        if len(known) or len(floor):
            rows.append([name, *(float(some.mean()) if len(some) else math.nan for some in (known, floor)), len(known),
                         definition])
    return rows


def compared_table(results: Results, floor: Results, where: str, notes: Sequence[str] = ()) -> Table:
    """One row per metric: a model's mean, the mean face's, and their ratio."""
    rows: list[list[Cell]] = [[name, float(mean), float(floor.means[name]), float(mean / floor.means[name])
                               if floor.means[name] else math.nan, results.counts[name], results.definitions[name]]
                              for name, mean in results.means.items()]
    skipped = [f"skipped {name}: {reason}" for name, reason in results.skipped]
    return Table(where, ["metric", "model", "mean face", "ratio", "samples", "definition"], rows, [*notes, *skipped])


def _missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _plain(cell: Cell) -> str:
    if isinstance(cell, tuple):         # a shape
        return " x ".join("?" if part is None else str(part) for part in cell)
    return str(cell)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\r", "").replace("\n", "<br>")


def thesis_table(scores: Callable[[str, str], Results], there: Sequence[str], data: str) -> Table:
    """`table2` of a run's checkpoints `there`, of CHECKPOINTS, on both parts of the subjects; scores(part, checkpoint).
    """
    results = {(part, name): scores(SUBJECTS[part], CHECKPOINTS[name]) for part in SUBJECTS for name in there}
    return table2({key: result.means for key, result in results.items()}, data, *about(results))
