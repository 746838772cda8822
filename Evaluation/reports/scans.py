"""`evaluate.py --scans FOLDER`: a network on real subjects with scans, beside the mean face on the same subjects."""
from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Callable, NamedTuple, Protocol, Sequence

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.io.atomic import all_or_none
from Dataset.representations.points import SIZE, encode
from Dataset.sources.scans import ScanSubject, read_scan, scan_subjects
from Evaluation.figures.plots import plot_heat_maps
from Evaluation.metrics.face_regions import REGIONS
from Evaluation.metrics.scan_errors import ALIGNMENTS, RADIUS, ScanErrors, ScanTarget, scan_errors, scan_target
from Evaluation.reports.tables import Cell, Table

DIRECTIONS = ("reverse", "forward")
SYSTEMS = ("model", "mean face")


class FoundFace(Protocol):
    """points (n * n, 3) mm, an ordered grid in the head frame: the subject's neutral face; sized: the system knows its
    size, else it is the mean face's; missed: names of photos without a face. `Network.commands.subject_faces` makes
    them."""

    points: np.ndarray
    sized: bool
    missed: Sequence[str]


#: a subject's photos -> the face from all of them, or None where none shows one
FaceFrom = Callable[[Sequence[Path]], "FoundFace | None"]


class ScanSample(NamedTuple):
    """One face against one scan. errors: (system, alignment) -> `ScanErrors`; face None: no face was found, and the
    model's errors are the mean face's."""

    name: str
    photos: int
    target: ScanTarget
    face: FoundFace | None
    errors: dict[tuple[str, str], ScanErrors]


class ScanReport(NamedTuple):
    """Of all subjects, by region, by subject."""

    summary: Table
    regions: Table
    subjects: Table

    def text(self) -> str:
        """All tables for a terminal."""
        return "\n".join(table.text() for table in self)

    def write(self, stem: str | os.PathLike[str]) -> list[Path]:
        """STEM, STEM_regions and STEM_subjects as .txt, .csv and .md -> the paths."""
        stem = Path(stem)
        stem = stem.with_suffix("") if stem.suffix in (".txt", ".csv", ".md") else stem
        with all_or_none():
            return [path for table, ending in zip(self, ("", "_regions", "_subjects"))
                    for path in table.write(stem.with_name(f"{stem.name}{ending}"))]


def scan_report(folder: str | Path, face_from: FaceFrom, name: str, unit: str = "mm", each_photo: bool = False,
                most: int | None = None, figures: str | Path | None = None,
                progress: Callable = lambda items, total: items) -> ScanReport:
    """Evaluate a network on a folder of scans (`Dataset.sources.scans`).

    each_photo  every photo alone is a sample, as NoW does, else all photos of a subject are one
    most        photos of a subject that count, the first by name; None: all
    figures     folder for the heat maps: one of each sample, and `mean.png`
    ValueError as `scan_subjects`, `read_scan` and `scan_target`; all scans are read before the first photo.
    """
    subjects = scan_subjects(folder)
    targets = [_target(subject, unit) for subject in subjects]
    work = [(subject, target, photos) for subject, target in zip(subjects, targets)
            for photos in _photo_sets(subject, each_photo, most)]
    samples, grids = [], _Means()
    for subject, target, photos in progress(work, total=len(work)):
        label = subject.name if not each_photo else f"{subject.name}/{photos[0].stem}"
        sample = measure(label, target, face_from(photos), len(photos))
        samples.append(sample)
        grids.add(sample)
        if figures:
            _draw(sample, Path(figures))
    if figures:
        grids.draw(Path(figures) / "mean.png", name)
    how = "each photo alone" if each_photo else "one face from all photos of a subject"
    where = f"{name} on {folder}: {len(subjects)} subjects, {sum(s.photos for s in samples)} photos, {how}"
    return ScanReport(summary_table(samples, where), region_table(samples, f"{where}, by region"),
                      subject_table(samples, f"{where}, by subject"))


def measure(name: str, target: ScanTarget, face: FoundFace | None, photos: int = 1) -> ScanSample:
    """A face, and the mean face, against a scan, after both alignments."""
    mean = encode(np.asarray(load_face_model().mean, np.float64)).reshape(-1, 3)
    clouds = {"model": mean if face is None else face.points, "mean face": mean}
    floor = {how: scan_errors(mean, target, how == "similarity") for how in ALIGNMENTS}
    errors = {(system, how): floor[how] if cloud is mean else scan_errors(cloud, target, how == "similarity")
              for system, cloud in clouds.items() for how in ALIGNMENTS}
    return ScanSample(name, photos, target, face, errors)


def summary_table(samples: Sequence[ScanSample], title: str) -> Table:
    """Median, mean and standard deviation over all points of all samples, in mm, as NoW prints them; and the mean in
    per cent of the scan's diagonal."""
    rows: list[list[Cell]] = []
    for how in ALIGNMENTS:
        for direction in DIRECTIONS:
            cells: list[list[float]] = []
            for system in SYSTEMS:
                values = [_known(getattr(sample.errors[system, how], direction)) for sample in samples]
                every = np.concatenate(values)
                percent = [100 * float(v.mean()) / s.target.diagonal for v, s in zip(values, samples) if len(v)]
                cells.append([float(np.median(every)), float(every.mean()), float(every.std()), float(np.mean(percent))]
                             if len(every) else [math.nan] * 4)
            rows.append([how, direction, *cells[0], *cells[1], cells[0][1] / cells[1][1] if cells[1][1] else math.nan])
    return Table(title, ["alignment", "direction", "median, mm", "mean, mm", "std, mm", "mean, %", "mean face: median",
                         "mean face: mean", "mean face: std", "mean face: mean, %", "ratio of means"], rows,
                 _notes(samples), digits=3)


def region_table(samples: Sequence[ScanSample], title: str) -> Table:
    """Reverse distances by region of the scan: mean over all points of all samples, mm."""
    rows: list[list[Cell]] = []
    for number, region in enumerate(REGIONS):
        row: list[Cell] = [region]
        for how in ALIGNMENTS:
            means = []
            for system in SYSTEMS:
                every = np.concatenate([sample.errors[system, how].reverse[sample.target.regions == number]
                                        for sample in samples])
                means.append(float(every.mean()) if len(every) else math.nan)
            row += [*means, means[0] / means[1] if means[1] else math.nan]
        rows.append(row)
    return Table(title, ["region", "rigid: model", "rigid: mean face", "rigid: ratio", "similarity: model",
                         "similarity: mean face", "similarity: ratio"], rows,
                 ["mean distance scan -> predicted surface, mm; regions of the face model fitted to the scan"],
                 digits=3)


def subject_table(samples: Sequence[ScanSample], title: str) -> Table:
    """Mean reverse and forward distances of each sample after a similarity, mm."""
    rows: list[list[Cell]] = []
    for sample in samples:
        row: list[Cell] = [sample.name, sample.photos, "yes" if sample.face else "no"]
        for direction in DIRECTIONS:
            means = [_mean(getattr(sample.errors[system, "similarity"], direction)) for system in SYSTEMS]
            row += [*means, means[0] / means[1] if means[1] else math.nan]
        rows.append(row)
    return Table(title, ["subject", "photos", "face", "reverse: model", "reverse: mean face", "reverse: ratio",
                         "forward: model", "forward: mean face", "forward: ratio"], rows,
                 ["mean distances after a similarity, mm"], digits=3)


class _Means:
    """The mean forward distance of each grid point over the samples, of each system."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, np.ndarray] = {}

    def add(self, sample: ScanSample) -> None:
        for system in SYSTEMS:
            values = sample.errors[system, "similarity"].forward
            if len(values) != SIZE ** 2:
                continue                # a coarser grid has no place on the mean face's
            known = np.isfinite(values)
            self._sums[system] = self._sums.get(system, 0.0) + np.where(known, values, 0.0)
            self._counts[system] = self._counts.get(system, 0) + known

    def draw(self, path: Path, name: str) -> None:
        mean = encode(np.asarray(load_face_model().mean, np.float64)).reshape(-1, 3)
        rows = [(name if system == "model" else system, mean, np.where(self._counts[system] > 0, self._sums[system]
                 / np.maximum(self._counts[system], 1), np.nan)) for system in SYSTEMS if system in self._sums]
        plot_heat_maps(rows, path, "mean distance to the scan after a similarity, mm")


def _draw(sample: ScanSample, folder: Path) -> None:
    """The scan's points, coloured by their distance from each system's surface, upright as the mean face is."""
    errors = {system: sample.errors[system, "similarity"] for system in SYSTEMS}
    points = errors["mean face"].transform.inverse().apply(sample.target.points)
    plot_heat_maps([(system, points, found.reverse) for system, found in errors.items()],
                   folder / f"{sample.name.replace('/', '_')}.png",
                   "distance scan -> predicted surface after a similarity, mm", sample.name)


def _target(subject: ScanSubject, unit: str) -> ScanTarget:
    scan = read_scan(subject, unit)
    return scan_target(scan.mesh, scan.landmarks, str(subject.scan))


def _photo_sets(subject: ScanSubject, each_photo: bool, most: int | None) -> list[list[Path]]:
    photos = subject.photos[:most]
    return [[photo] for photo in photos] if each_photo else [photos]


def _notes(samples: Sequence[ScanSample]) -> list[str]:
    unsized = [sample.name for sample in samples if sample.face and not sample.face.sized]
    missed = [name for sample in samples if sample.face for name in sample.face.missed]
    faceless = [sample.name for sample in samples if sample.face is None]
    notes = [f"within {RADIUS:g} mm of the scan's nose tip; reverse: scan -> predicted surface, as NoW; forward: "
             "predicted points -> scan, without those nearest to its border; rigid: in the predicted size; similarity: "
             "scaled",
             "median, mean, std: over all points of all samples; %: of the diagonal of the box of the scan's counted "
             "points"]
    if unsized:
        notes.append("the network gives no size: rigid is in the mean face's")
    if faceless:
        notes.append(f"no face found, the mean face counts: {', '.join(faceless[:20])}")
    return [*notes, *([f"photos without a face: {', '.join(missed[:20])}"] if missed else [])]


def _known(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _mean(values: np.ndarray) -> float:
    known = _known(values)
    return float(known.mean()) if len(known) else math.nan
