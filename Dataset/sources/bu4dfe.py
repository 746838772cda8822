"""Raw BU-4DFE -> subject folders:  python -m Dataset.bu4dfe RAW OUT [--neutral FILE.csv] [--workers N] [flags]

RAW holds F001/Angry/000.jpg + 000.wrl and so on: females F001-F058, males M001-M043, six expressions of about 100
frames; other folders such as BU_WrlViewer_V2/ are ignored. OUT gets one folder a subject (256x256 face crops,
one .ply of 2^14 points in mm), dataset.json, split.json (who trains, validates, tests, by subject), report.csv (each
skipped subject and frame, each neutral frame) and neutral.jpg (those frames, to look at). With --order grid the
ground truths are the scans registered to the built-in face, in the order of the 128x128 grid, and registration.json
says how well each fits. After a kill the same command continues with the missing subjects
(Dataset/io/work_folder.py).
"""
from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import io
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from Dataset.geometry.sampling import METHODS
from Dataset.io.atomic import folder_lock, write_text
from Dataset.io.command import one_line
from Dataset.io.flags import fields_of
from Dataset.io.images import read_image, tiled, write_image
from Dataset.io.work_folder import Progress, make_folders
from Dataset.io.workers import check_workers
from Dataset.sources.bu4dfe_grid import describe, write_summary
from Dataset.sources.bu4dfe_raw import EXPECTED, Neutral, check_neutral, find_subject_folders, read_neutral
from Dataset.sources.bu4dfe_subject import Options, Row, as_settings, convert
from Dataset.sources.subjects import DatasetInfo, open_dataset, split_by_subject, write_dataset_info, write_split

log = logging.getLogger(__name__)
REPORT, SHEET = "report.csv", "neutral.jpg"


class Job(NamedTuple):
    raw: Path
    options: Options
    neutral: tuple[str, str] | None


def convert_all(raw: Path, out: Path, options: Options, neutral: Neutral | None = None, workers: int = 1,
                exclude: tuple[str, ...] = (), progress: Progress | None = None) -> list[Row]:
    """Convert every subject in `raw` into `out` -> the rows of the report. The bytes do not depend on `workers`.

    Subjects that were skipped are tried again by the next call: RAW may have been repaired. ValueError: no RAW, no
    subjects in it, OUT was made with other settings or by another program or is being written to by another process, a
    scan's axes are not those assumed, no subject could be converted. Else as `Dataset.io.work_folder.make_folders`.
    """
    check_workers(workers)
    subjects = find_subject_folders(raw, exclude)
    neutral = neutral or {}
    check_neutral(raw, subjects, neutral)
    if neutral:
        digest = hashlib.sha256(json.dumps(neutral, sort_keys=True).encode()).hexdigest()
        options = dataclasses.replace(options, neutral_csv=digest[:16])
    info = DatasetInfo(source="bu4dfe", points=options.points, order=options.order, grid=options.grid,
                       image_size=options.size, seed=options.seed, units="mm", complete=False,
                       settings={**as_settings(options), "exclude": sorted(exclude)})
    with folder_lock(out):
        open_dataset(out, info)
        jobs = {path.name: Job(path, options, neutral.get(path.name)) for path in subjects}
        made = make_folders(out, _run, jobs, workers, progress, begin=lambda: write_dataset_info(out, info))
        return _close(out, made.reports, info)


def _run(folder: Path, job: Job) -> list[Row]:
    rows = convert(job.raw, folder, job.options, job.neutral)
    if not any(row.status == "neutral" for row in rows):
        shutil.rmtree(folder)
    return rows


def _close(out: Path, subjects: dict[str, list[Row]], info: DatasetInfo) -> list[Row]:
    """Write the report, the split and the images to look at; mark OUT as complete."""
    rows = [Row(*row) for found in subjects.values() for row in found]
    absent = [name for name in EXPECTED if name not in subjects]
    if absent:
        rows.append(Row("", "", "", "missing", f"{len(absent)} of {len(EXPECTED)} subjects not in RAW or excluded: "
                        + " ".join(absent)))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([Row._fields, *rows])
    write_text(out / REPORT, table.getvalue())
    neutral = [row for row in rows if row.status == "neutral"]
    if not neutral:
        raise ValueError(f"{out}: no subject could be converted; {out / REPORT} says why")
    write_image(out / SHEET, _sheet([out / r.subject / f"{r.expression}_{r.frame}.jpg" for r in neutral]))
    if info.order == "grid":
        write_summary(out, [row.subject for row in neutral])
    if len(neutral) > 1:
        write_split(out, split_by_subject([row.subject for row in neutral], info.seed))
    else:
        log.warning("%s: one subject cannot be split; no split.json", out)
    write_dataset_info(out, dataclasses.replace(info, complete=True))
    return rows


def _sheet(paths: list[Path], side: int = 128, columns: int = 12) -> np.ndarray:
    """The images side by side, each with its subject's name -> (H, W, 3) uint8."""
    tiles = []
    for path in paths:
        tile = cv2.resize(read_image(path), (side, side), interpolation=cv2.INTER_AREA)
        tiles.append(cv2.putText(tile, f"{path.parent.name} {path.stem}", (3, side - 5), cv2.FONT_HERSHEY_PLAIN, 0.7,
                                 (0, 255, 255)))
    return tiled(tiles, columns)


def parse(argv: list[str] | None) -> argparse.Namespace:
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m Dataset.bu4dfe", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", metavar="RAW", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--neutral", metavar="FILE.csv", type=Path,
                        help="subject,expression,frame of each ground truth; else the frame of lowest motion")
    parser.add_argument("--neutral-window", type=int, default=defaults.neutral_window, metavar="N",
                        help="seek it in the first N frames of each video; 0: in all (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--order", choices=("random", "grid"), default=defaults.order,
                        help="of the ground truth's points: random is the thesis's; grid registers the scans")
    parser.add_argument("--sampling", choices=METHODS, default=defaults.sampling)
    parser.add_argument("--points", type=int, default=defaults.points)
    parser.add_argument("--crop-mm", type=float, default=0.0, metavar="MM",
                        help="keep what lies within MM of the nose tip, 95 for a face; 0: all of the scan")
    parser.add_argument("--size", type=int, default=defaults.size, help="of the crops, in pixels")
    parser.add_argument("--detector", choices=("thesis", "chain"), default=defaults.detector,
                        help="thesis: frontal cascade, full image; chain: shrunk image, several cascades, faster")
    parser.add_argument("--exclude", metavar="F012,M003", default="", help="subjects to leave out")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    return parser.parse_args(argv)


@one_line("Dataset.bu4dfe", resumable=True)
def main(argv: list[str] | None = None) -> int:
    from tqdm import tqdm

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = parse(argv)
    options = Options(**fields_of(Options, arguments))
    neutral = read_neutral(arguments.neutral) if arguments.neutral else None
    exclude = tuple(filter(None, arguments.exclude.split(",")))
    rows = convert_all(arguments.raw, arguments.out, options, neutral, arguments.workers, exclude,
                       lambda results, total: tqdm(results, total=total, unit="subject"))
    count = {status: sum(row.status == status for row in rows) for status in ("neutral", "skipped")}
    print(f"{arguments.out}: {count['neutral']} subjects; {count['skipped']} frames or subjects skipped, see "
          f"{arguments.out / REPORT}; look at the neutral frames in {arguments.out / SHEET}")
    if options.order == "grid":
        print(describe(arguments.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
