"""The one on-disk format: a folder of subject folders.

    DATA/dataset.json           what the whole is (DatasetInfo); optional
    DATA/split.json             who trains, validates, tests (Split); optional
    DATA/F001/Angry_000.jpg ... face crops, all of one size
    DATA/F001/F001.ply          the ground truth: exactly one .ply, N points
    DATA/F001/sidecar.npz       of synthetic subjects: how each image was made; optional
    DATA/F001/000.depth.png     beside 000.jpg, where the source has them: 8 bits, 255 nearest, 0 no depth; all or none

The thesis's folders (appendix A-3: Training/ and Testing/, each with subject folders) are read as they are.
"""
from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from Dataset.io.atomic import write_text
from Dataset.io.images import IMAGE_SUFFIXES, image_size
from Dataset.io.json_files import read_json
from Dataset.io.mesh_io import read_points
from Dataset.io.mesh_readers.ply import vertex_count
from Dataset.io.work_folder import require_new

__all__ = ["DatasetInfo", "Split", "Subject", "dataset_info", "has_split", "list_subjects", "open_dataset",
           "read_points", "read_split", "split_by_subject", "subjects_of", "write_dataset_info", "write_split"]

INFO, SPLIT, SIDECAR, DEPTH = "dataset.json", "split.json", "sidecar.npz", ".depth.png"
VERSION = 1
SPLITS = ("train-test", "train-validation-test")
THESIS_TEST, THESIS_VALIDATION, THESIS_SUBJECTS = 26, 10, 96      # 70 / 26 of 96; we take 10 of the 70 for validation


_TYPES: dict[str, type] = {"str": str, "int": int, "bool": bool, "dict": dict}


class Subject(NamedTuple):
    """One subject: `images` are sorted by name; `sidecar` is None where there is none; `depths` are the images' depth
    images in the same order, none where there are none."""

    name: str
    images: list[Path]
    ground_truth: Path
    sidecar: Path | None = None
    depths: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The content of dataset.json; the defaults hold for a folder without one.

    points      points of each ground truth
    order       "grid": a point's index is its position in the ordered grid (row-major); "random": it has no meaning
    grid        side of the grid; 0 when the order is random
    image_size  side of the crops in pixels
    units       of the ground truths
    settings    the other options of the converter; a restart must have the same
    complete    False while a converter runs, and after it was killed; such a folder cannot be read
    """

    source: str = "folder"
    points: int = 2**14
    order: str = "random"
    grid: int = 0
    image_size: int = 256
    seed: int = 0
    units: str = "mm"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    complete: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            kind, value = _TYPES[str(field.type).split("[")[0]], getattr(self, field.name)
            if not isinstance(value, kind) or isinstance(value, bool) and kind is int:
                raise ValueError(f"{field.name} must be of type {kind.__name__}, got {value!r}")
        if self.order not in ("grid", "random"):
            raise ValueError(f"order must be 'grid' or 'random', got {self.order!r}")
        if self.order == "grid" and self.grid**2 != self.points:
            raise ValueError(f"a grid of side {self.grid} has {self.grid**2} points, not {self.points}")


class Split(NamedTuple):
    """Names of the subjects for each use; the lists are disjoint. The thesis trains on the first two together."""

    training: list[str]
    validation: list[str]
    test: list[str]
    seed: int = 0


def list_subjects(folder: str | os.PathLike[str]) -> list[Subject]:
    """The subjects in `folder`, sorted by name; of a thesis-shaped folder those of Training and of Testing.

    ValueError, naming the folder and the rule: no folder, no subject in it, a subject without images, with no
    .ply or with several, with depth images for some images only, one name twice. Hidden names (also leftovers of a
    killed writer) are ignored.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: {'is a file, not a folder of subjects' if folder.exists() else 'no such folder'}")
    if (folder / INFO).is_file() and not dataset_info(folder).complete:
        raise ValueError(f"{folder}: a dataset must be complete, this one's conversion is unfinished; run it again")
    subjects = [_subject(path) for part in (_thesis_parts(folder) or (folder,)) for path in _folders(part)]
    subjects.sort(key=lambda subject: subject.name)
    if not subjects:
        raise ValueError(f"{folder}: a dataset must have at least one subject folder, this has none")
    for one, next_one in zip(subjects, subjects[1:]):
        if one.name == next_one.name:
            raise ValueError(f"{folder}: each subject may be there once, {one.name} is in Training and in Testing")
    return subjects


def has_split(folder: str | os.PathLike[str]) -> bool:
    """Whether split.json, or the folders Training and Testing, say which subjects are for what."""
    return (Path(folder) / SPLIT).is_file() or _thesis_parts(Path(folder)) is not None


def subjects_of(folder: str | os.PathLike[str], split: str = "train-test") -> dict[str, list[Subject]]:
    """The subjects by use -> {"training": ..., "validation": ..., "test": ...}, each sorted by name.

    train-test             the thesis's: everyone but the test subjects trains, and checkpoints are chosen on the
                           test subjects ("validation" and "test" are the same subjects)
    train-validation-test  checkpoints are chosen on subjects who neither train nor test

    From split.json, else the Training and Testing folders, else a split by subject with seed 0. ValueError when
    split.json and the folders do not name the same subjects, or when a list would be empty.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    known = {subject.name: subject for subject in list_subjects(folder)}
    lists = read_split(folder) or _default_split(Path(folder), sorted(known))
    named = [*lists.training, *lists.validation, *lists.test]
    strangers = sorted(set(named) ^ set(known))
    if strangers:
        raise ValueError(f"{Path(folder) / SPLIT}: the split and the subject folders must name the same subjects, "
                         f"{', '.join(strangers[:5])} {'is' if len(strangers) == 1 else 'are'} only in one of them")
    if split == "train-test":
        lists = lists._replace(training=lists.training + lists.validation, validation=lists.test)
    subjects = {use: [known[name] for name in sorted(getattr(lists, use))]
                for use in ("training", "validation", "test")}
    for use, group in subjects.items():
        if not group:
            raise ValueError(f"{folder}: split {split} needs subjects for {use}, there are none of {len(known)}")
    return subjects


def split_by_subject(names: list[str], seed: int, test: int | None = None, validation: int | None = None) -> Split:
    """Split subjects at random: same names and seed, same split, whatever the order of the names.

    `test` and `validation` are counts; None: the thesis's fraction, 26 of 96 (70 train), and 10 of those 70. Each
    is at least 1 where there are enough subjects; of two subjects one trains and one tests. ValueError for fewer
    than 2 subjects, a name twice, or counts that leave no subject to train on.
    """
    subjects = sorted(names)
    if len(subjects) < 2 or len(set(subjects)) != len(subjects):
        raise ValueError(f"a split by subject needs at least 2 different names, got {len(subjects)} "
                         f"with {len(set(subjects))} different; --subjects of Dataset.synthetic and Dataset.shards "
                         "says how many are rendered")
    if test is None:
        test = max(1, round(len(subjects) * THESIS_TEST / THESIS_SUBJECTS))
    if validation is None:
        validation = min(max(1, round(len(subjects) * THESIS_VALIDATION / THESIS_SUBJECTS)), len(subjects) - test - 1)
    if test < 0 or validation < 0 or test + validation >= len(subjects):
        raise ValueError(f"of {len(subjects)} subjects, {test} for test and {validation} for validation leave none")
    shuffled = [subjects[i] for i in np.random.default_rng(seed).permutation(len(subjects))]
    return Split(sorted(shuffled[test + validation:]), sorted(shuffled[test:test + validation]),
                 sorted(shuffled[:test]), seed)


def write_split(folder: str | os.PathLike[str], split: Split) -> None:
    """Write split.json."""
    write_text(Path(folder) / SPLIT, json.dumps({"version": VERSION, **split._asdict()}, indent=1) + "\n")


def read_split(folder: str | os.PathLike[str]) -> Split | None:
    """Read split.json; None if there is none. ValueError if it is broken or has a subject in two lists."""
    path = Path(folder) / SPLIT
    data = _read_json(path)
    if data is None:
        return None
    lists = [data.get(use) for use in ("training", "validation", "test")]
    if not all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in lists):
        raise ValueError(f"{path}: must have lists of names training, validation, test, got keys {sorted(data)}")
    count = Counter(name for names in lists for name in names)
    twice = sorted(name for name, times in count.items() if times > 1)
    if twice:
        raise ValueError(f"{path}: each subject may be in one list only, {', '.join(twice[:5])} is not")
    seed = data.get("seed", 0)
    if type(seed) is not int:
        raise ValueError(f"{path}: seed must be a whole number, got {str(seed)[:40]!r}")
    return Split(*lists, seed=seed)


def write_dataset_info(folder: str | os.PathLike[str], info: DatasetInfo) -> None:
    """Write dataset.json."""
    write_text(Path(folder) / INFO, json.dumps({"version": VERSION, **dataclasses.asdict(info)}, indent=1) + "\n")


def open_dataset(out: Path, info: DatasetInfo) -> None:
    """Begin the dataset OUT, or go on with one that the same settings began; ValueError for anything else there."""
    if (out / INFO).is_file():
        mine, theirs = ({**dataclasses.asdict(i), **i.settings, "settings": 0, "complete": 0}
                        for i in (info, dataset_info(out)))
        for key in sorted(set(mine) | set(theirs)):
            if mine.get(key) != theirs.get(key):
                raise ValueError(f"{out}: OUT was begun with {key} {theirs.get(key)!r}, now it is {mine.get(key)!r}; "
                                 "give the same settings or another OUT")
    else:
        require_new(out)
        write_dataset_info(out, info)


def dataset_info(folder: str | os.PathLike[str]) -> DatasetInfo:
    """Read dataset.json; of a folder without one, points and image size are those of the first subject.

    ValueError for a broken file, an unknown key, or a version that this program does not know.
    """
    path = Path(folder) / INFO
    data = _read_json(path)
    if data is None:
        first = list_subjects(folder)[0]
        return DatasetInfo(points=vertex_count(first.ground_truth), image_size=max(image_size(first.images[0])))
    version = data.pop("version", None)
    if version != VERSION:
        raise ValueError(f"{path}: this program reads version {VERSION}, got {version!r}")
    unknown = sorted(set(data) - {field.name for field in dataclasses.fields(DatasetInfo)})
    if unknown:
        raise ValueError(f"{path}: has the unknown key {unknown[0]!r}")
    try:
        return DatasetInfo(**data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None


def _default_split(folder: Path, names: list[str]) -> Split:
    parts = _thesis_parts(folder)
    if parts is None:
        return split_by_subject(names, seed=0)
    training, test = ([path.name for path in _folders(part)] for part in parts)
    few = max(1, round(len(training) * THESIS_VALIDATION / (THESIS_SUBJECTS - THESIS_TEST)))
    if len(training) < 2:
        return Split(training, [], test)
    inner = split_by_subject(training, seed=0, test=0, validation=few)
    return Split(inner.training, inner.validation, test)


def _thesis_parts(folder: Path) -> tuple[Path, Path] | None:
    parts = folder / "Training", folder / "Testing"
    return parts if all(part.is_dir() for part in parts) else None


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _subject(folder: Path) -> Subject:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    depths = tuple(path for path in files if path.name.endswith(DEPTH))
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and path not in depths]
    clouds = [path for path in files if path.suffix.lower() == ".ply"]
    if len(clouds) != 1:
        raise ValueError(f"{folder}: a subject must have exactly one .ply, got {len(clouds)}"
                         + (f" ({', '.join(path.name for path in clouds[:3])})" if clouds else
                            "; is its conversion unfinished?"))
    if not images:
        raise ValueError(f"{folder}: a subject must have at least one image, got none")
    if depths and [path.name for path in depths] != [path.stem + DEPTH for path in images]:
        raise ValueError(f"{folder}: depth images must belong to all images or to none, got {len(depths)} of "
                         f"{len(images)} NAME{DEPTH}")
    sidecar = folder / SIDECAR
    return Subject(folder.name, images, clouds[0], sidecar if sidecar in files else None, depths)
