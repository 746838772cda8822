"""Images with their depth images, from subject folders that have both (Dataset/sources/texas3d.py writes them).

Two splits. `subject`: the parts share no subject, and checkpoints are chosen on subjects who neither train nor test.
`published`: the paper's counts (Baby et al. 2020, IV.D: 919 images train and 230 test, of 1,149), drawn over images.
The 10 subjects that the paper held out have fewer than 230 images on average. Drawn over images, the same subjects
train and test, so that the score does not measure generalisation to new subjects.
"""
from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.io.images import read_image
from Dataset.sources.subjects import Split, Subject, dataset_info, list_subjects, read_split, subjects_of

SPLITS = ("subject", "published")
USES = ("training", "validation", "test")
PUBLISHED_TEST, PUBLISHED = 230, 1149
MAX_PIXELS = 4_000_000


class Pair(NamedTuple):
    """One image with its depth image; depth_range: of the 255 levels, as a fraction of the side of the image; None: not
    known, so that the levels span the range of a network's output."""

    subject: str
    image: Path
    depth: Path
    depth_range: float | None = None


def pairs(folder: str | os.PathLike[str], use: str = "training", split: str | None = None) -> list[Pair]:
    """The pairs of a part of a folder, sorted by subject and name.

    use    training, validation or test; validation is test in `published`, as in the paper, and in `subject` if
           split.json has no subject for it
    split  one of SPLITS; None: the one that the folder was made with, else by subject

    ValueError: no such folder, no depth images in it, an unknown use or split, a part without pairs.
    """
    info = dataset_info(folder)
    split = info.settings.get("split", SPLITS[0]) if split is None else split
    if use not in USES or split not in SPLITS:
        raise ValueError(f"pairs are of {', '.join(USES)} by {' or '.join(SPLITS)}, got {use!r} by {split!r}")
    everybody = list_subjects(folder)
    if not any(subject.depths for subject in everybody):
        raise ValueError(f"{folder}: holds no depth images beside its images")
    depth_range = info.settings.get("depth_range")
    if split == "subject":
        # choosing a checkpoint on the test subjects would bias the test
        apart = (read_split(folder) or Split([], [], [])).validation
        return _pairs(subjects_of(folder, "train-validation-test" if apart else "train-test")[use], depth_range)
    every = _pairs(everybody, depth_range)
    if len(every) < 2:
        raise ValueError(f"{folder}: a split needs at least 2 pairs, this has {len(every)}")
    tested = published_test(len(every), info.seed)
    return [pair for k, pair in enumerate(every) if (k in tested) != (use == "training")]


def published_test(count: int, seed: int) -> set[int]:
    """Which of `count` pairs test in the split `published`: 230 of 1,149, the same fraction of other counts, at least
    1."""
    order = np.random.default_rng([seed, count]).permutation(count)
    return set(order[:max(1, round(count * PUBLISHED_TEST / PUBLISHED))].tolist())


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """(S, S, 3) uint8 BGR and (S, S) uint8, 255 nearest, 0 no depth. ValueError names the file that is broken, or of
    another size than its partner."""
    image, depth = read_image(pair.image, MAX_PIXELS), read_depth_image(pair.depth)
    if image.shape[:2] != depth.shape:
        raise ValueError(f"{pair.depth}: a depth image has its image's size {image.shape[1]}x{image.shape[0]}, "
                         f"this has {depth.shape[1]}x{depth.shape[0]}")
    return image, depth


def read_depth_image(path: str | os.PathLike[str]) -> np.ndarray:
    """(H, W) uint8, 255 nearest, 0 no depth. ValueError, naming the file, for one that is broken, coloured, or all 0.
    """
    image = read_image(path, MAX_PIXELS)
    if (image != image[..., :1]).any():
        raise ValueError(f"{path}: a depth image must be grey, this is coloured")
    if not image.any():
        raise ValueError(f"{path}: a depth image must show something, this is all 0")
    return np.ascontiguousarray(image[..., 0])


def _pairs(subjects: list[Subject], depth_range: float | None) -> list[Pair]:
    return [Pair(subject.name, image, depth, depth_range) for subject in subjects
            for image, depth in zip(subject.images, subject.depths)]
