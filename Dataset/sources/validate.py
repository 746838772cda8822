"""Check a whole dataset before training on it:  python -m Dataset.validate FOLDER

`list_subjects` stops at the first problem with the folders; this opens every file and lists all problems.
"""
from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.io.images import read_image
from Dataset.io.mesh_io import read_points
from Dataset.sources.depth_pairs import read_depth_image
from Dataset.sources.subjects import dataset_info, list_subjects, read_split


class Report(NamedTuple):
    """`problems`: one line each, with the file's name; empty if the dataset can be used."""

    subjects: int
    images: int
    points: int
    problems: list[str]


def validate(folder: str | os.PathLike[str]) -> Report:
    """Open every image and ground truth in `folder`. ValueError only where its folders are no dataset at all.

    Problems: a file that cannot be read, a depth image that is not grey or shows nothing, an image that is not square
    or not of the dataset's size, a ground truth of another number of points, a split that does not name each subject
    once.
    """
    subjects, info = list_subjects(folder), dataset_info(folder)
    problems: list[str] = []
    for subject in subjects:
        for path in (*subject.images, *subject.depths):
            try:
                image = read_depth_image(path) if path in subject.depths else read_image(path)
            except ValueError as error:
                problems.append(str(error))
                continue
            height, width = image.shape[:2]
            if (width, height) != (info.image_size, info.image_size):
                problems.append(f"{path}: images must be {info.image_size}x{info.image_size}, got {width}x{height}")
        try:
            points = read_points(subject.ground_truth)
        except ValueError as error:
            problems.append(str(error))
            continue
        if len(points) != info.points:
            problems.append(f"{subject.ground_truth}: ground truths must have {info.points} points, got {len(points)}")
        elif not np.ptp(points, axis=0).all():
            problems.append(f"{subject.ground_truth}: a face must have three dimensions, got extents "
                            f"{np.ptp(points, axis=0).tolist()}")
    try:
        split = read_split(folder)
    except ValueError as error:
        problems.append(str(error))
        split = None
    if split is not None:
        strangers = {s.name for s in subjects} ^ {*split.training, *split.validation, *split.test}
        for name in sorted(strangers):
            problems.append(f"{Path(folder) / name}: is only in one of split.json and the folders")
    return Report(len(subjects), sum(len(s.images) for s in subjects), info.points, problems)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m Dataset.validate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = parser.parse_args(argv).folder
    try:
        report = validate(folder)
    except ValueError as error:
        print(f"Dataset.validate: {error}", file=sys.stderr)
        return 2
    for problem in report.problems:
        print(problem)
    print(f"{folder}: {report.subjects} subjects, {report.images} images, {report.points} points each; "
          f"{len(report.problems)} problems")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
