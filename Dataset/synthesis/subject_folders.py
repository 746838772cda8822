"""Synthetic subjects as subject folders:  python -m Dataset.synthetic OUT --subjects 96 --images 60 --seed 0

Renders subjects of the built-in face in random expressions, poses, light and surroundings, cropped by the same detector
as photos. A folder holds 000.jpg ..., the subject's neutral, frontal face S000.ply (head
frame, mm; in the order of the grid, or --order random as the thesis drew its points) and sidecar.npz,
from which mesh, depth, landmarks and everything else can be derived again (Dataset/synthesis/sidecar.py). OUT/sheet.jpg
shows some images. Image i of subject s depends only on (seed, s, i). After a kill the same command continues
with the missing subjects (Dataset/io/work_folder.py).
"""
from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model, use_face_model
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.sampling import sample
from Dataset.io.atomic import folder_lock
from Dataset.io.command import one_line
from Dataset.io.flags import add_fields, fields_of
from Dataset.io.images import read_image, tiled, write_image
from Dataset.io.mesh_io import write_points
from Dataset.io.work_folder import Progress, make_folders
from Dataset.io.workers import check_workers
from Dataset.representations import points
from Dataset.seeding import MAX_SEED
from Dataset.sources.subjects import (SIDECAR, DatasetInfo, open_dataset, split_by_subject, write_dataset_info,
                                      write_split)
from Dataset.synthesis.framing import frame_face
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.scene import Range, SceneSubject, sample_view
from Dataset.synthesis.sidecar import (Sidecar, annotation_hash, frame_mesh, load_sidecar, model_hash, rerender,
                                       save_sidecar)
from Dataset.synthesis.skin import sample_appearance

__all__ = ["Options", "ground_truth", "make_dataset", "make_subject", "load_sidecar", "frame_mesh", "rerender"]

SHEET = "sheet.jpg"             # up to 25 images, to look at
MAX_SIZE = 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of a dataset. subjects, images (of each), seed; size of the crops in pixels; order "grid"
    or "random"; points of each ground truth; yaw, pitch, roll: largest absolute angle in degrees;
    expression: strength in [0, 1]; quality: of the JPEGs; skins: fraction of the subjects with photographed skin
    (Dataset/synthesis/photographed_skin.py). ValueError for a value out of range."""
    subjects: int = 96
    images: int = 60
    seed: int = 0
    size: int = 256
    order: str = "grid"
    points: int = 2**14
    yaw: float = 45.0
    pitch: float = 20.0
    roll: float = 15.0
    expression: float = 0.8
    quality: int = 95
    skins: float = 0.0

    def __post_init__(self) -> None:
        rules = (("subjects", 1, 100_000), ("images", 1, 100_000), ("seed", 0, MAX_SEED), ("size", 16, MAX_SIZE),
                 ("points", 1, 2**20), ("yaw", 0, 90), ("pitch", 0, 60), ("roll", 0, 180), ("expression",
                 0, 1), ("quality", 1, 100), ("skins", 0, 1))
        for name, low, high in rules:
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"--{name} must be within {low} to {high}, got {value}")
        if self.order not in ("grid", "random"):
            raise ValueError(f"--order must be grid or random, got {self.order!r}")
        if self.order == "grid" and self.grid not in (8, 16, 32, 64, 128):
            raise ValueError(f"--points in grid order must be 64, 256, 1024, 4096 or 16384, got {self.points}")

    @property
    def grid(self) -> int:
        """The side of the grid; 0 where there is none."""
        side = math.isqrt(self.points)
        return side if self.order == "grid" and side * side == self.points else 0

    def info(self, model: FaceModel, complete: bool) -> DatasetInfo:
        """The content of dataset.json."""
        own = ("subjects", "images", "yaw", "pitch", "roll", "expression", "quality")
        settings = {**{name: getattr(self, name) for name in own}, "model": model_hash(model),
                    "annotations": annotation_hash(model)}
        if self.skins:          # left out at its default: older sets keep their bytes
            settings["skins"] = self.skins
        return DatasetInfo(source="synthetic", points=self.points, order=self.order, grid=self.grid,
                           image_size=self.size, seed=self.seed, units="mm", complete=complete, settings=settings)


def subject_name(number: int) -> str:
    """S000, S001, ..."""
    return f"S{number:03d}"


def ground_truth(model: FaceModel, identity: np.ndarray, options: Options, rng: np.random.Generator) -> np.ndarray:
    """The neutral, frontal face (points, 3) float64 mm: the grid row by row, or points drawn uniformly on
    its surface."""
    vertices = model.shape(identity)
    if options.order == "grid":
        return points.decode(points.encode(vertices, options.grid, model))
    # The grid's own surface is the face without ears, scalp and neck, with eyes and mouth closed.
    surface = Mesh(points.decode(points.encode(vertices, model=model)), points.grid_triangles())
    return sample(surface, options.points, rng).points


def make_subject(folder: Path, job: tuple[int, Options]) -> dict[str, int]:
    """Write one subject, given as (number, options): images, ground truth, sidecar -> how many images each pass of the
    detector framed."""
    (number, options), context = job, render_context()
    model = context.model
    subject = np.random.default_rng([options.seed, number, 0])
    identity = model.sample_identity(subject).astype(np.float32)
    scene_subject = SceneSubject(context, identity, sample_appearance(subject), options.skins)
    views, framings, landmarks = [], [], []
    digits = max(3, len(str(options.images - 1)))
    for image in range(options.images):
        rng = np.random.default_rng([options.seed, number, 1, image])
        expression = model.sample_expression(rng, options.expression)
        view = sample_view(rng, expression, Range(options.yaw, options.pitch, options.roll))
        posed = scene_subject.set(view)
        framing = frame_face(posed, options.size)
        write_image(folder / f"{image:0{digits}d}.jpg", posed.render(framing.camera), options.quality)
        projected = framing.camera.project(posed.landmarks())
        views.append(view)
        framings.append(framing)
        landmarks.append(np.stack([projected.x, projected.y], -1).astype(np.float32))
    cloud = ground_truth(model, identity, options, np.random.default_rng([options.seed, number, 2]))
    write_points(folder / f"{subject_name(number)}.ply", cloud)
    save_sidecar(folder / SIDECAR, Sidecar(
        identity, scene_subject.appearance, views, [f.camera for f in framings], np.array([f.box for f in framings]),
        [f.source for f in framings], np.stack(landmarks), model_hash(model), np.array([options.seed, number]),
        options.skins, annotation_hash(model)))
    return dict(Counter(f.source for f in framings))


def make_dataset(out: Path, options: Options, workers: int = 1,
                 progress: Progress | None = None) -> dict[str, int]:
    """Write a dataset -> how many images each pass of the detector framed, the most first. The bytes do not depend on
    ``workers``.

    ValueError: OUT was made with other settings, holds something else, or another process is writing there. Else as
    `Dataset.io.work_folder.make_folders`.
    """
    check_workers(workers)
    out, info = Path(out), options.info(load_face_model(), complete=False)
    with folder_lock(out):
        open_dataset(out, info)
        jobs = {subject_name(number): (number, options) for number in range(options.subjects)}
        made = make_folders(out, make_subject, jobs, workers, progress, begin=lambda: write_dataset_info(out, info))
        names = list(jobs)
        if len(names) > 1:
            write_split(out, split_by_subject(names, options.seed))
        write_image(out / SHEET, _sheet(out, names, options.images))
        write_dataset_info(out, dataclasses.replace(info, complete=True))
    return dict(sum(map(Counter, made.reports.values()), Counter()).most_common())


def _sheet(out: Path, names: list[str], images: int, columns: int = 5, side: int = 200) -> np.ndarray:
    """The first subject's images, then the second's ...; of 25 subjects and more the first image of each."""
    each = max(1, -(-columns * columns // len(names)))
    paths = [p for name in names[:columns * columns] for p in sorted((out / name).glob("*.jpg"))[:min(each, images)]]
    tiles = [cv2.resize(read_image(p), (side, side), interpolation=cv2.INTER_AREA) for p in paths[:columns * columns]]
    return tiled(tiles, columns)


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    parser = argparse.ArgumentParser(prog="python -m Dataset.synthetic", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--workers", type=int, default=1, metavar="N")
    parser.add_argument("--face-model", metavar="FILE", help="Basel, FLAME or ICT-FaceKit instead of the built-in face")
    helps = {"subjects": "subjects", "images": "images of each", "size": "side of the images, pixels",
             "order": "of the points: the grid's, or random as in the thesis",
             "points": "of each ground truth; in grid order 64, 256, 1024, 4096 or 16384",
             "yaw": "largest, degrees", "pitch": "largest, degrees", "roll": "largest, degrees",
             "expression": "strength, 0 to 1", "quality": "of the JPEGs", "seed": "of everything",
             "skins": "fraction of the subjects with photographed skin"}
    add_fields(parser, Options, helps, {"order": ("grid", "random")})
    arguments = parser.parse_args(argv)
    return arguments, fields_of(Options, arguments)


@one_line("Dataset.synthetic", resumable=True)
def main(argv: list[str] | None = None) -> int:
    """Command line; exit code 2 and one line for bad input."""
    from tqdm import tqdm

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments, options = parse(argv)
    use_face_model(arguments.face_model)
    sources = make_dataset(arguments.out, Options(**options), arguments.workers,
                           lambda results, total: tqdm(results, total=total, unit="subject", disable=None))
    total = sum(sources.values())
    fractions = ", ".join(f"{name} {100 * count / total:.0f} %" for name, count in sources.items())
    print(f"{arguments.out}: {options['subjects']} subjects, {total} images; boxes: {fractions}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
