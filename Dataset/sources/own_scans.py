"""Own photos with one scan a subject as subject folders:  python -m Dataset.scans IN OUT

IN/ANY_NAME/ holds uncropped photos of one subject and exactly one scan of its neutral face (.ply, .obj or .wrl), as the
thesis's appendix A-2, step 3, asks for. As in listings B-1.2 and B-1.3, faces are detected, cut and resized, the scan
is cleaned, and points are drawn on it. An .obj's textures, which its .mtl names, are no photos. OUT/report.csv lists
what was skipped and why. The same command goes on after a kill.
"""
from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import logging
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from Dataset.detection.cascades import detect_faces
from Dataset.geometry.mesh import clean
from Dataset.geometry.sampling import METHODS, sample
from Dataset.io.atomic import folder_lock, write_text
from Dataset.io.command import one_line
from Dataset.io.flags import add_fields, fields_of
from Dataset.io.images import IMAGE_SUFFIXES, crop_resize, read_image, write_image
from Dataset.io.mesh_io import read_mesh, write_points
from Dataset.io.work_folder import Progress, make_folders
from Dataset.sources.bu4dfe_subject import subject_generator
from Dataset.sources.subjects import DatasetInfo, open_dataset, split_by_subject, write_dataset_info, write_split

SCANS = (".ply", ".obj", ".wrl")
REPORT = "report.csv"
MAX_MATERIALS = 2**20       # bytes of an .mtl
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """What a subject's bytes depend on. ValueError for a value out of range.

    points, sampling    drawn on the scan; a cloud without triangles gives some of its own points
    size                of the crops, px
    detector            thesis: the frontal cascade on the full photo; chain: several, on a smaller one
    """

    points: int = 2**14
    sampling: str = "uniform"
    size: int = 256
    detector: str = "thesis"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, values in (("sampling", METHODS), ("detector", ("thesis", "chain"))):
            if getattr(self, name) not in values:
                raise ValueError(f"--{name} must be one of {', '.join(values)}, got {getattr(self, name)!r}")
        for name, minimum in (("points", 1), ("size", 1), ("seed", 0)):
            if getattr(self, name) < minimum:
                raise ValueError(f"--{name} must be at least {minimum}, got {getattr(self, name)}")


class Job(NamedTuple):
    """A subject's folder in IN, and the options."""

    source: Path
    options: Options


class Skipped(NamedTuple):
    """A line of the report: a subject, a file of its folder or "", and why it was left out."""

    subject: str
    file: str
    reason: str


def convert_all(source: Path, out: Path, options: Options = Options(),
                progress: Progress | None = None) -> list[Skipped]:
    """Convert every subject folder in `source` into `out` -> what was skipped.

    ValueError, naming the folder: no IN, no subject folder in it, OUT was begun with other settings or holds something
    else, no subject could be converted.
    """
    if not source.is_dir():
        raise ValueError(f"{source}: IN must be a folder of subject folders; there is no such folder")
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise ValueError(f"{source}: IN must hold a folder for each subject, it holds none")
    settings = {name: getattr(options, name) for name in ("sampling", "detector")}
    info = DatasetInfo(source="scans", points=options.points, image_size=options.size, seed=options.seed,
                       units="as the scans", settings=settings, complete=False)
    with folder_lock(out):
        open_dataset(out, info)
        write_dataset_info(out, info)
        made = make_folders(out, _convert, {folder.name: Job(folder, options) for folder in folders},
                            progress=progress)
        skipped = [Skipped(*row) for report in made.reports.values() for row in report]
        _close(out, folders, skipped, info)
    return skipped


def _convert(folder: Path, job: Job) -> list[Skipped]:
    """Convert one subject into the empty `folder` -> what was skipped; deletes `folder` where nothing is to be kept."""
    skipped = convert(job.source, folder, job.options)
    if any(row.file == "" for row in skipped):
        shutil.rmtree(folder)
    return skipped


def _close(out: Path, folders: list[Path], skipped: list[Skipped], info: DatasetInfo) -> None:
    """Write the report and the split; mark OUT as complete."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([Skipped._fields, *skipped])
    write_text(out / REPORT, table.getvalue())
    names = [folder.name for folder in folders if (out / folder.name).is_dir()]
    if not names:
        raise ValueError(f"{out}: no subject could be converted; {out / REPORT} says why")
    if len(names) > 1:
        write_split(out, split_by_subject(names, info.seed))
    write_dataset_info(out, dataclasses.replace(info, complete=True))


def convert(folder: Path, out: Path, options: Options) -> list[Skipped]:
    """Write one subject into the empty folder `out` -> what was skipped. A row without a file: the whole
    subject, and `out` must not be used."""
    name, files = folder.name, sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    scans = [path for path in files if path.suffix.lower() in SCANS]
    if len(scans) != 1:
        return [Skipped(name, "", f"a subject must have exactly one {', '.join(SCANS)}, got {len(scans)}")]
    try:
        cloud = ground_truth(scans[0], options, subject_generator(options.seed, name))
    except ValueError as error:
        return [Skipped(name, "", str(error))]
    write_points(out / f"{name}.ply", cloud)
    skipped, textures, kept = [], _textures(files), 0
    for path in files:
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name in textures:
            continue
        try:
            image = read_image(path)
        except ValueError as error:
            skipped.append(Skipped(name, path.name, str(error)))
            continue
        found = detect_faces(image, thesis=options.detector == "thesis")
        if not found:
            skipped.append(Skipped(name, path.name, f"{path}: no face found"))
            continue
        kept += 1
        taken = (out / f"{path.stem}.jpg").exists()         # a.jpg and a.png are two photos
        write_image(out / f"{path.name if taken else path.stem}.jpg", crop_resize(image, found[0].box, options.size))
    return skipped if kept else [*skipped, Skipped(name, "", "no photo with a face")]


def ground_truth(path: Path, options: Options, rng: np.random.Generator) -> np.ndarray:
    """A scan -> (points, 3) float64 in its own unit, in random order: cleaned, then drawn on its surface; of a cloud
    without triangles as many of its points. ValueError, naming the file, where it cannot be read or has too few."""
    scan = read_mesh(path)
    if len(scan.triangles):
        return sample(clean(scan), options.points, rng, options.sampling).points
    if len(scan.vertices) < options.points:
        raise ValueError(f"{path}: a cloud must have at least {options.points} points (--points), this has "
                         f"{len(scan.vertices)}")
    return scan.vertices[rng.choice(len(scan.vertices), options.points, replace=False)]


def _textures(files: list[Path]) -> set[str]:
    """Names of the images that the .mtl files name."""
    words: set[str] = set()
    for path in files:
        if path.suffix.lower() == ".mtl" and path.stat().st_size <= MAX_MATERIALS:
            text = path.read_text("utf-8", errors="replace")
            words |= {Path(line.split()[-1]).name for line in re.findall(r"(?im)^\s*map_\w+\s+.*\S", text)}
    return words


@one_line("Dataset.scans", resumable=True)
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    from tqdm import tqdm
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m Dataset.scans", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="IN", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    add_fields(parser, Options, {"points": "of each ground truth", "sampling": "how they are drawn on a scan",
                                 "size": "side of the crops, px", "detector": "thesis: frontal cascade, full photo; "
                                 "chain: several cascades, smaller photo", "seed": "of the points and the split"},
               {"sampling": METHODS, "detector": ("thesis", "chain")})
    arguments = parser.parse_args(argv)
    skipped = convert_all(arguments.source, arguments.out, Options(**fields_of(Options, arguments)),
                          partial(tqdm, unit="subject", disable=None))
    print(f"{arguments.out}: {len(skipped)} photos or subjects skipped, see {arguments.out / REPORT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
