"""Errors by attribute of the image and of the subject: fairness and failure as numbers.

A stratum is compared with the mean face on the same photos, since the mean face's own error differs between strata.
"""
from __future__ import annotations

import math
from typing import Callable, Mapping, NamedTuple, Sequence

import numpy as np

from Dataset.attributes import IMAGE_ATTRIBUTES, SUBJECT_ATTRIBUTES
from Evaluation.metrics.curve import interval
from Evaluation.reports.tables import Cell, Table

SAMPLES = 2000          # of the bootstrap
COLUMNS = ("attribute", "value", "system", "photos", "error", "low", "high", "ratio to the mean face",
           "worse than the mean face, %", "no face", "subjects", "subject: error", "subject: ratio to the mean face")


class SystemErrors(NamedTuple):
    """photos: "SUBJECT/IMAGE" -> error of the face from this photo alone, in %; subjects: "SUBJECT" -> error of the
    face from all photos; faceless: the photos in which no face is found, which count with the mean face."""

    name: str
    photos: Mapping[str, float]
    subjects: Mapping[str, float]
    faceless: frozenset[str]


def strata_table(systems: Sequence[SystemErrors], attributes: Callable[[int, int], Mapping[str, str]], title: str
                 ) -> Table:
    """One row for each value of each attribute and each system, the mean face first: systems[0].

    attributes  subject, image -> attribute -> value; an attribute that it leaves out does not exist for this image
    """
    known = {name: attributes(*map(int, name.split("/"))) for name in systems[0].photos}
    rows: list[list[Cell]] = []
    for attribute, values in {**SUBJECT_ATTRIBUTES, **IMAGE_ATTRIBUTES}.items():
        for value in values:
            photos = [name for name, found in known.items() if found.get(attribute) == value]
            subjects = sorted({name.split("/")[0] for name in photos}) if attribute in SUBJECT_ATTRIBUTES else []
            rows += [[attribute, value, system.name, *_photo_cells(system, systems[0], photos),
                      *_subject_cells(system, systems[0], subjects)] for system in systems if photos]
    return Table(f"By attribute. {title}", COLUMNS, rows, [
        "error: as in the table of single photos; low, high: 95 % bootstrap interval of its mean over subjects; ratio: "
        "to the mean face's on the same photos",
        "worse than the mean face: fraction of the photos whose error is above the mean face's on the same photo",
        "age and sex are of the appearance, the shape of a synthetic subject depends on neither; lamp and brightness "
        "as the face receives them; hidden: fraction of the face's pixels behind hair, glasses and clothes"], digits=3)


def _photo_cells(system: SystemErrors, mean: SystemErrors, photos: Sequence[str]) -> list[Cell]:
    scored = [name for name in photos if name in system.photos and name in mean.photos]
    faceless = sum(name in system.faceless for name in photos)
    if not scored:
        return [len(photos), *[math.nan] * 5, faceless]
    ours, floor = (np.array([one.photos[name] for name in scored]) for one in (system, mean))
    owners = np.unique([name.split("/")[0] for name in scored], return_inverse=True)[1]
    each = np.bincount(owners, ours) / np.bincount(owners)
    _, low, high = interval(each, SAMPLES)
    worse = math.nan if system is mean else 100 * float((ours > floor).mean())
    return [len(photos), float(ours.mean()), low, high, _ratio(ours, floor), worse,
            math.nan if system is mean else faceless]


def _subject_cells(system: SystemErrors, mean: SystemErrors, subjects: Sequence[str]) -> list[Cell]:
    scored = [name for name in subjects if name in system.subjects and name in mean.subjects]
    if not scored:
        return [len(subjects) or math.nan, math.nan, math.nan]
    ours, floor = (np.array([one.subjects[name] for name in scored]) for one in (system, mean))
    return [len(subjects), float(ours.mean()), _ratio(ours, floor)]


def _ratio(ours: np.ndarray, floor: np.ndarray) -> float:
    return float(ours.mean() / floor.mean()) if floor.mean() else math.nan
