"""Texas 3D Face Recognition Database -> subject folders:  python -m Dataset.texas3d SOURCE OUT [flags]

SOURCE is the flat folder of the release: NAME_Portrait.png beside NAME_Range.png (8 bits, 255 nearest, 0 nothing);
the second field of NAME between _ is the subject's number of 3 digits; 1,149 pairs. OUT gets one folder a subject, T001
and so on: 000.jpg and 000.depth.png, SIZE x SIZE, in the order of the names, T001.ply, points in mm on the surface of
the subject's first range image; and dataset.json, split.json (by subject, 10 tested), report.csv: every file that was
used, or why not. Images are made square by repeating their border (no depth there), and dataset.json says how many mm
they show, so that the predicted depth has the right proportions. `--square squeezed` follows the paper: the image is
squeezed into the square and its levels are used as they are; faces learnt from it are too wide and too deep.
`--split published` has the paper's counts of images (Dataset/sources/depth_pairs.py says what is wrong with them).
After a kill the same command continues with the missing subjects (Dataset/io/work_folder.py).
"""
from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import io
import logging
import os
import re
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.geometry.camera import look_at_face
from Dataset.geometry.sampling import sample
from Dataset.io.atomic import folder_lock, write_text
from Dataset.io.command import one_line
from Dataset.io.flags import add_fields, fields_of
from Dataset.io.images import image_size, read_image, write_image
from Dataset.io.mesh_io import write_points
from Dataset.io.work_folder import Progress, make_folders
from Dataset.io.workers import check_workers
from Dataset.representations.depth import LEVELS, triangulate
from Dataset.seeding import MAX_SEED
from Dataset.sources.depth_pairs import MAX_PIXELS, SPLITS, read_depth_image
from Dataset.sources.subjects import (DEPTH, DatasetInfo, open_dataset, split_by_subject, write_dataset_info,
                                      write_split)

log = logging.getLogger(__name__)
PORTRAIT, RANGE = "_Portrait.png", "_Range.png"
NAME = re.compile(r"[^_]+_(\d{3})(_.*)?")
REPORT = "report.csv"
SQUARES = ("padded", "squeezed")
WORDS = {"split": SPLITS, "square": SQUARES}
HELD_OUT = 10                   # subjects, of the paper's 116
FAR = 1e6                       # mm: the range images are orthographic, a camera so far away is, too


@dataclasses.dataclass(frozen=True)
class Options:
    """split: which of `depth_pairs.SPLITS` readers take; square: one of SQUARES, how images become square; size: of
    the images, px; seed: of both splits and the points; points: of each ground truth; held_out: subjects that test;
    pixel, level: mm of a range image's pixel and grey level (0.32 by the authors' description, not checked against
    the data). ValueError for a value out of range."""
    split: str = "subject"
    square: str = "padded"
    size: int = 256
    seed: int = 0
    points: int = 2**14
    held_out: int = HELD_OUT
    pixel: float = 0.32
    level: float = 0.32

    def __post_init__(self) -> None:
        for name, low, high in (("size", 16, 1024), ("seed", 0, MAX_SEED), ("points", 1, 2**20),
                                ("held_out", 1, 10_000), ("pixel", 0.001, 100), ("level", 0.001, 100)):
            if not low <= getattr(self, name) <= high:
                flag = name.replace("_", "-")
                raise ValueError(f"--{flag} must be within {low} to {high}, got {getattr(self, name)}")
        for name, words in WORDS.items():
            if getattr(self, name) not in words:
                raise ValueError(f"--{name} must be {' or '.join(words)}, got {getattr(self, name)!r}")

    def scale(self, size: tuple[int, int]) -> dict[str, float]:
        """The scale in dataset.json of images that were `size` (width, height) px: side, the width in mm; depth_range,
        of the 255 levels, as a fraction of it. Empty for squeezed images, which have no single scale."""
        side = max(size) * self.pixel
        return {"side": side, "depth_range": LEVELS * self.level / side} if self.square == "padded" else {}


class Row(NamedTuple):
    """A row of the report: a file of SOURCE, its subject folder, "used" or "refused", and the reason."""

    file: str
    subject: str
    status: str
    reason: str


class Found(NamedTuple):
    """subjects: subject -> names of pairs, sorted; rows: the files that form no pair; size: (width, height) of most
    pairs.
    """

    subjects: dict[str, list[str]]
    rows: list[Row]
    size: tuple[int, int]


def find_pairs(source: Path) -> Found:
    """The pairs in SOURCE by name and size; no pixel is read. ValueError: no folder, or no pair in it."""
    if not source.is_dir():
        raise ValueError(f"{source}: {'is a file, not a folder' if source.exists() else 'no such folder'}")
    files = {path.name for path in source.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith(".")}
    rows, sizes = [], {}
    for name in sorted(files):
        ending = next((e for e in (PORTRAIT, RANGE) if name.endswith(e)), None)
        if ending is None:
            rows.append(Row(name, "", "refused", f"a name must end in {PORTRAIT} or {RANGE}"))
            continue
        stem, other = name.removesuffix(ending), RANGE if ending == PORTRAIT else PORTRAIT
        if not NAME.fullmatch(stem):
            rows.append(Row(name, "", "refused", "the second field of a name between _ must be a number of 3 digits"))
        elif stem + other not in files:
            rows.append(Row(name, _subject(stem), "refused", f"its partner {stem + other} is missing"))
        elif ending == PORTRAIT:
            try:
                both = [image_size(source / (stem + e)) for e in (PORTRAIT, RANGE)]
            except ValueError as error:
                rows.append(Row(name, _subject(stem), "refused", _plain(error, source, name)))
                continue
            if both[0] != both[1]:
                rows.append(Row(name, _subject(stem), "refused", "portrait and range must be of one size, they are "
                                f"{both[0][0]}x{both[0][1]} and {both[1][0]}x{both[1][1]}"))
                continue
            sizes[stem] = both[0]
    if not sizes:
        raise ValueError(f"{source}: holds no usable pair NAME{PORTRAIT} and NAME{RANGE}"
                         + (f"; {rows[0].file}: {rows[0].reason}" if rows else ""))
    usual = Counter(sizes.values()).most_common(1)[0][0]
    subjects: dict[str, list[str]] = {}
    for stem, size in sizes.items():
        if size == usual:
            subjects.setdefault(_subject(stem), []).append(stem)
        else:
            rows.append(Row(stem + PORTRAIT, _subject(stem), "refused", f"must be {usual[0]}x{usual[1]} as most here, "
                            f"is {size[0]}x{size[1]}"))
    return Found(dict(sorted(subjects.items())), rows, usual)


class Job(NamedTuple):
    """stems: names of the subject's pairs; seed: of its points."""

    source: Path
    stems: list[str]
    options: Options
    seed: list[int]


def convert_all(source: Path, out: Path, options: Options, workers: int = 1, progress: Progress | None = None
                ) -> list[Row]:
    """Convert every pair in SOURCE -> the report's rows. Same source and options, same bytes.

    OUT is not readable before all subjects are complete. ValueError: see `find_pairs`; OUT was made with other settings
    or of other files, holds something else, or another process is writing there; no pair could be read. Else as
    `Dataset.io.work_folder.make_folders`.
    """
    check_workers(workers)
    found = find_pairs(source)
    digest = hashlib.sha256("\n".join(f"{name} {(source / name).stat().st_size}" for stems in found.subjects.values()
                                      for stem in stems for name in (stem + PORTRAIT, stem + RANGE)).encode())
    info = DatasetInfo(source="texas3d", points=options.points, image_size=options.size, seed=options.seed,
                       complete=False, settings={"depth": True, "files": digest.hexdigest()[:16],
                                                 **{name: getattr(options, name) for name in
                                                    ("split", "held_out", "pixel", "level", "square")},
                                                 **options.scale(found.size)})
    with folder_lock(out):
        open_dataset(out, info)
        jobs = {subject: Job(source, stems, options, [options.seed, number])
                for number, (subject, stems) in enumerate(found.subjects.items())}
        made = make_folders(out, _convert, jobs, workers, progress, begin=lambda: write_dataset_info(out, info))
        rows = found.rows + [Row(*row) for report in made.reports.values() for row in report]
        subjects = sorted({row.subject for row in rows if row.status == "used"})
        for row in rows:
            if row.status == "refused":
                log.warning("%s: %s", source / row.file, row.reason)
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([Row._fields, *sorted(rows)])
        write_text(out / REPORT, table.getvalue())
        if not subjects:
            raise ValueError(f"{source}: no pair could be read; {out / REPORT} says why")
        _split(out, subjects, options)
        write_dataset_info(out, dataclasses.replace(info, complete=True))
    return rows


def _convert(folder: Path, job: Job) -> list[Row]:
    """Convert one subject -> its rows; deletes `folder` if no pair could be read."""
    (source, stems, options, seed), subject = job, folder.name
    rows, points, rng = [], None, np.random.default_rng(seed)
    digits = max(3, len(str(len(stems) - 1)))
    for stem in stems:
        try:
            image = read_image(source / (stem + PORTRAIT), MAX_PIXELS)
            levels = read_depth_image(source / (stem + RANGE))
            points = surface_points(levels, options, rng) if points is None else points
        except ValueError as error:
            rows.append(Row(stem + PORTRAIT, subject, "refused", _plain(error, source, stem + PORTRAIT)))
            continue
        name = f"{sum(row.status == 'used' for row in rows):0{digits}d}"
        if options.square == "padded":
            image, levels = padded(image, cv2.BORDER_REPLICATE), padded(levels, cv2.BORDER_CONSTANT)
        size = (options.size, options.size)
        write_image(folder / f"{name}.jpg", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        write_image(folder / f"{name}{DEPTH}", resize_levels(levels, options.size))
        rows.append(Row(stem + PORTRAIT, subject, "used", f"{subject}/{name}.jpg"))
    if points is not None:
        write_points(folder / f"{subject}.ply", points)
    else:
        shutil.rmtree(folder)
    return rows


def padded(image: np.ndarray, border: int) -> np.ndarray:
    """An image (H, W[, 3]) uint8 centred in a square of its longer side; border: OpenCV's type for the rest."""
    height, width = image.shape[:2]
    down, across = max(0, width - height), max(0, height - width)
    return cv2.copyMakeBorder(image, down // 2, down - down // 2, across // 2, across - across // 2, border)


def resize_levels(levels: np.ndarray, size: int) -> np.ndarray:
    """A range image (H, W) uint8 -> (size, size) uint8: each pixel the mean of the face's levels under it; 0 where
    less than half of it is face. A plain resize would mix levels at the face's border with the 0 of the background."""
    face = (levels > 0).astype(np.float32)
    total, cover = (cv2.resize(a, (size, size), interpolation=cv2.INTER_AREA) for a in (levels * face, face))
    mean = np.rint(total / np.maximum(cover, 1e-6))
    return np.where(cover >= 0.5, np.clip(mean, 1, 255), 0).astype(np.uint8)


def surface_points(levels: np.ndarray, options: Options, rng: np.random.Generator) -> np.ndarray:
    """Points (N, 3) mm evenly on a range image's surface: x right, y up, z to the camera, the image's middle at 0.
    ValueError where the image makes no surface."""
    depth = np.where(levels > 0, FAR - levels * options.level, np.nan)
    height, width = levels.shape
    camera = look_at_face(max(height, width), FAR, FAR / options.pixel)
    mesh = triangulate(depth, camera._replace(width=width, height=height, centre=(width / 2, height / 2)))
    if not len(mesh.triangles):
        raise ValueError("its range image makes no surface")
    return sample(mesh, options.points, rng).points


def _split(out: Path, subjects: list[str], options: Options) -> None:
    if len(subjects) < 2:
        log.warning("%s: one subject cannot be split; no split.json", out)
        return
    held = min(options.held_out, max(1, len(subjects) // 3))
    if held < options.held_out:
        log.warning("%s: of %d subjects %d test, not %d", out, len(subjects), held, options.held_out)
    # as many for validation, on which a checkpoint is chosen; fewer where else none would train
    write_split(out, split_by_subject(subjects, options.seed, held, min(held, len(subjects) - held - 1)))


def _subject(stem: str) -> str:
    return "T" + NAME.fullmatch(stem)[1]


def _plain(error: Exception, source: Path, name: str) -> str:
    """The message of an error without the folder, and without the file's name if the row has it."""
    return str(error).replace(f"{source}{os.sep}", "").removeprefix(f"{name}: ")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m Dataset.texas3d", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    helps = {"split": "by subject, or the paper's counts of images",
             "square": "how images become square: padded, or squeezed as in the paper",
             "size": "of the images, pixels", "seed": "of the splits and points",
             "points": "of each ground truth", "held_out": "subjects that test",
             "pixel": "mm of a range image's pixel", "level": "mm of its grey level"}
    add_fields(parser, Options, helps, WORDS)
    return parser.parse_args(argv)


@one_line("Dataset.texas3d", resumable=True)
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    from tqdm import tqdm

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse(argv)
    options = Options(**fields_of(Options, arguments))
    rows = convert_all(arguments.source, arguments.out, options, arguments.workers,
                       lambda results, total: tqdm(results, total=total, unit="subject", disable=None))
    used = [row for row in rows if row.status == "used"]
    print(f"{arguments.out}: {len({row.subject for row in used})} subjects, {len(used)} pairs; {len(rows) - len(used)} "
          f"files or pairs refused, see {arguments.out / REPORT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
