"""`evaluate.py --pairs FOLDER`: do faces made of single photos of real subjects agree? No scan is needed.

Photos are named SUBJECT_KIND, whatever KIND is ("neutral", "2"). Photos of two kinds that several subjects have are
compared with each other, as they are and after the mean change from one kind to the other is taken out.
"""
from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import numpy as np

from Dataset.io.images import IMAGE_SUFFIXES
from Evaluation.metrics.pairs import aligned, matches, matches_among
from Evaluation.reports.tables import Cell, Table

MAX_KINDS = 4           # of photos; with more of them (photo numbers) only all photos are compared

#: a photo's file -> the neutral face (N, 3), the same N ordered points for all, or None where none is found
FaceOf = Callable[[Path], "np.ndarray | None"]


class PairPhoto(NamedTuple):
    """subject and kind, of a file named SUBJECT_KIND."""

    path: Path
    subject: str
    kind: str


def pair_photos(folder: str | Path) -> list[PairPhoto]:
    """The photos of a folder, by name. ValueError, naming file and rule: no folder, no photos, a photo without a
    subject's name, fewer than two subjects, fewer than two subjects with two photos."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: must be a folder of photos named SUBJECT_anything")
    found = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()):
        subject, line, kind = path.stem.partition("_")
        if not (subject and line and kind):
            raise ValueError(f"{path}: a photo must be named SUBJECT_anything, this has no subject's name")
        found.append(PairPhoto(path, subject, kind))
    if not found:
        raise ValueError(f"{folder}: holds no photo ({' '.join(IMAGE_SUFFIXES)})")
    counts = [sum(photo.subject == subject for photo in found) for subject in {photo.subject for photo in found}]
    if sum(count > 1 for count in counts) < 2:
        raise ValueError(f"{folder}: at least two subjects with two photos each are needed, found "
                         f"{sum(count > 1 for count in counts)} of {len(counts)} subjects")
    return found


def pairs_table(folder: str | Path, face_of: FaceOf, name: str,
                progress: Callable = lambda photos, total: photos) -> Table:
    """Rank-1 identification and genuine/impostor distance ratio of a folder's photos, each read alone. A photo without
    a face is a miss. ValueError as `pair_photos`, and where fewer than two subjects have two faces."""
    photos = pair_photos(folder)
    faces = [face_of(photo.path) for photo in progress(photos, total=len(photos))]
    seen = [photo for photo, face in zip(photos, faces) if face is not None]
    missed = [photo.path.name for photo, face in zip(photos, faces) if face is None]
    if sum(sum(photo.subject == subject for photo in seen) > 1 for subject in {photo.subject for photo in seen}) < 2:
        raise ValueError(f"{folder}: fewer than two subjects have two photos with a face")
    clouds = aligned(np.stack([face for face in faces if face is not None]))
    rows = [*_by_kinds(photos, seen, clouds), _among(photos, seen, clouds)]
    subjects = len({photo.subject for photo in photos})
    notes = ["faces: the neutral face of each photo alone, brought together by similarities; distance: mean over "
             "points, of the root mean square radius of a face",
             "rank-1: how many photos have their own subject's nearest, a constant face none; genuine/impostor: mean "
             "distance of own pairs / of all others, 1 where a photo says nothing of its subject"]
    if missed:
        notes.append(f"no face in {len(missed)} photos, which count as misses: {', '.join(missed[:20])}")
    return Table(f"{name} on {folder}: {subjects} subjects, {len(photos)} photos",
                 ["photos", "faces", "rank-1", "of", "genuine/impostor ratio"], rows, notes, digits=3)


def _by_kinds(photos: Sequence[PairPhoto], seen: Sequence[PairPhoto], clouds: np.ndarray) -> list[list[Cell]]:
    """Four rows of each two kinds of photos: both ways, as they are and without the mean change."""
    by_name = {(photo.subject, photo.kind): cloud for photo, cloud in zip(seen, clouds)}
    owners = {kind: {photo.subject for photo in photos if photo.kind == kind} for kind in {p.kind for p in photos}}
    kinds = sorted(kind for kind, subjects in owners.items() if len(subjects) > 1)
    rows: list[list[Cell]] = []
    for first, second in combinations(kinds, 2) if len(kinds) <= MAX_KINDS else ():
        wanted = owners[first] & owners[second]
        given = sorted(subject for subject in wanted if {(subject, first), (subject, second)} <= by_name.keys())
        if len(given) < 2:
            continue
        a, b = (np.stack([by_name[subject, kind] for subject in given]) for kind in (first, second))
        for how, other in (("as they are", b), ("mean change taken out", b - b.mean(axis=0) + a.mean(axis=0))):
            found = matches(a, other)
            rows += [[f"{second} to {first}", how, found.backward, len(wanted), found.ratio],
                     [f"{first} to {second}", how, found.forward, len(wanted), found.ratio]]
    return rows


def _among(photos: Sequence[PairPhoto], seen: Sequence[PairPhoto], clouds: np.ndarray) -> list[Cell]:
    """Every photo against every other; those of subjects with one photo are impostors only."""
    nearest, ratio = matches_among(clouds, np.array([photo.subject for photo in seen]))
    names = [photo.subject for photo in photos]
    return ["each to all others", "as they are", nearest, sum(names.count(name) > 1 for name in names),
            ratio if math.isfinite(ratio) else math.nan]
