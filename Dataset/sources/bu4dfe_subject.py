"""One subject of BU-4DFE: videos and scans -> face crops and one ground truth. `Dataset.sources.bu4dfe` calls this.

Yin et al. 2008 (A High-Resolution 3D Dynamic Facial Expression Database); prepared as Thomassen 2022, 4.2.2 and
listings B-1.2, B-1.3. Not in the thesis: the automatic choice of the neutral frame, and the checks.
"""
from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from Dataset.detection import cascades as detect
from Dataset.geometry import sampling
from Dataset.geometry.mesh import Mesh, clean, crop_sphere
from Dataset.io.images import Box, crop_resize, read_image, write_image
from Dataset.io.mesh_io import read_mesh, write_points
from Dataset.seeding import MAX_SEED
from Dataset.sources.bu4dfe_grid import ordered_truth, write_record

EXPRESSIONS = ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise")
THUMBNAIL = 64              # pixels: motion is compared at this size
TIP_FRACTION = 0.002           # the nose tip is the median of the foremost vertices, this fraction of all
TIP_RADIUS = 25.0          # mm within which four of five of them must lie
# Where the nose tip must lie in the face box of a frontal image, as fractions of its width and height.
TIP_X, TIP_Y = (0.2, 0.8), (0.25, 0.9)
MIN_CORRELATION = 0.9       # of texture u with x and v with y; a projection from the front has nearly 1


class WrongAxes(ValueError):
    """A scan contradicts the axes assumed of all scans: the conversion stops."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The options that a subject's bytes depend on; a restart must have the same.

    detector        thesis: the frontal cascade on the full image (listing B-1.1); chain: `detect_faces`, faster
    crop_mm         keep what lies within this distance of the nose tip; 0: everything, as the thesis
    neutral_window  without a CSV the neutral frame is sought in the first so many frames of each video (they
                    begin neutral; a held grimace is as still as a neutral face); 0: in all of them
    neutral_csv     digest of the CSV that was given, "" for none
    order           random: points drawn on the scan, the thesis; grid: the scan registered, its points in the order
                    of the ordered grid (Dataset/representations/points.py), without `sampling` and `crop_mm`
    """

    points: int = 2**14
    size: int = 256
    sampling: str = "uniform"
    crop_mm: float = 0.0
    seed: int = 0
    detector: str = "thesis"
    neutral_window: int = 10
    neutral_csv: str = ""
    order: str = "random"

    def __post_init__(self) -> None:
        if self.sampling not in sampling.METHODS:
            raise ValueError(f"--sampling must be one of {', '.join(sampling.METHODS)}, got {self.sampling!r}")
        if self.detector not in ("thesis", "chain"):
            raise ValueError(f"--detector must be thesis or chain, got {self.detector!r}")
        if self.order not in ("random", "grid"):
            raise ValueError(f"--order must be random or grid, got {self.order!r}")
        if self.order == "grid" and self.points not in (64, 256, 1024, 4096, 16384):
            raise ValueError(f"--points in grid order must be 64, 256, 1024, 4096 or 16384, got {self.points}")
        if self.order == "grid" and (self.sampling != "uniform" or self.crop_mm):
            raise ValueError("--sampling and --crop-mm draw points at random; they do nothing with --order grid")
        for name, minimum, limit in (("points", 1, 2**20), ("size", 1, 4096), ("crop_mm", 0, 1e6),
                                     ("neutral_window", 0, 10**6), ("seed", 0, MAX_SEED)):
            if not minimum <= getattr(self, name) <= limit:
                raise ValueError(f"--{name.replace('_', '-')} must be within {minimum} to {limit}, "
                                 f"got {getattr(self, name)}")

    @property
    def grid(self) -> int:
        """The side of the grid; 0 in random order."""
        return math.isqrt(self.points) if self.order == "grid" else 0


class Row(NamedTuple):
    """A line of the report; status: "neutral" (the ground truth's frame), "bad fit" (its, in grid order), "skipped"."""

    subject: str
    expression: str
    frame: str
    status: str
    detail: str


class Frame(NamedTuple):
    """A frame that has a face: `motion` is NaN until known, `box` in pixels of the original image."""

    expression: str
    number: str
    box: Box
    motion: float = float("nan")


def convert(raw: Path, out: Path, options: Options, neutral: tuple[str, str] | None = None) -> list[Row]:
    """Write the subject in `raw` (RAW/F001) into the empty folder `out` -> report rows.

    `neutral` is (expression, frame) if the frame was chosen by hand. Skipped frames are rows; without a "neutral" row
    nothing usable was found, and `out` must not be used. WrongAxes ends the conversion.
    """
    rows: list[Row] = []
    frames = [frame for expression in EXPRESSIONS for frame in _images(raw, expression, out, options, rows)]
    if not frames:
        rows.append(Row(raw.name, "", "", "skipped", "no frame with a face"))
        return rows
    for frame in _candidates(frames, options, neutral):
        path = raw / frame.expression / f"{frame.number}.wrl"
        try:
            if options.order == "grid":
                cloud, record = ordered_truth(path, read_scan(path, frame.box)[0], options.points)
            else:
                cloud, record = ground_truth(path, frame.box, options, subject_generator(options.seed, raw.name)), None
        except WrongAxes:
            raise
        except ValueError as error:
            rows.append(Row(raw.name, frame.expression, frame.number, "skipped", f"as ground truth: {error}"))
            continue
        write_points(out / f"{raw.name}.ply", cloud)
        chosen = "chosen by the CSV" if neutral else f"lowest motion, {frame.motion:.4f} of the grey range"
        rows.append(Row(raw.name, frame.expression, frame.number, "neutral", chosen))
        if record is not None:
            write_record(out, record)
            if record["faults"]:
                rows.append(Row(raw.name, frame.expression, frame.number, "bad fit", ", ".join(record["faults"])))
        return rows
    where = f"{neutral[0]}/{neutral[1]}.wrl, which the CSV names," if neutral else "any neutral frame"
    rows.append(Row(raw.name, "", "", "skipped", f"no readable scan of {where}"))
    return rows


def ground_truth(path: Path, box: Box, options: Options, rng: np.random.Generator) -> np.ndarray:
    """A scan -> (points, 3) float64, mm, in random order: cleaned, cropped if asked for, sampled.

    Errors as `read_scan`.
    """
    scan, tip = read_scan(path, box)
    if options.crop_mm:
        scan = crop_sphere(scan, tip, options.crop_mm)
    return sampling.sample(scan, options.points, rng, options.sampling).points


def read_scan(path: Path, box: Box) -> tuple[Mesh, np.ndarray]:
    """A scan, cleaned, its axes checked, and its nose tip (3,), mm.

    `box` is the face in the image beside it, `000.jpg` for `000.wrl`. WrongAxes if the scan contradicts the
    axes; another ValueError if it cannot be read.
    """
    scan = read_mesh(path)
    if len(scan.triangles) == 0:
        raise ValueError(f"{path}: a scan must have triangles, this has only {len(scan.vertices)} points")
    scan = clean(scan)
    return scan, check_axes(path, scan, box, read_image(path.with_suffix(".jpg")).shape[:2])


def check_axes(path: Path, scan: Mesh, box: Box, image_shape: tuple[int, int]) -> np.ndarray:
    """Assert what is assumed of a scan -> its nose tip (3,), mm; WrongAxes where it does not hold.

    The image's x grows with the vertices' x and its y falls with theirs (by the texture coordinates), and the
    foremost points (largest z) are seen together in the middle of the face box: +z comes out of the face.
    """
    if scan.uv is None or not np.isfinite(scan.uv).any():
        raise WrongAxes(f"{path}: a scan must have texCoord and texCoordIndex, by which its axes are checked")
    vertices, uv = scan.vertices, scan.uv
    for axis, name, texture in ((0, "x", "u"), (1, "y", "v")):
        grows = np.corrcoef(vertices[:, axis], uv[:, axis])[0, 1]
        if not grows > MIN_CORRELATION:
            raise WrongAxes(f"{path}: texture {texture} must grow with vertex {name} (+x image right, +y up), "
                            f"their correlation is {grows:.2f}")
    foremost = np.argsort(vertices[:, 2])[-max(1, round(TIP_FRACTION * len(vertices))):]
    tip = np.median(vertices[foremost], axis=0)
    height, width = image_shape
    x, y = np.median(uv[foremost], axis=0) * (width, -height) + (0, height)
    fraction_x, fraction_y = (x - box[0]) / box[2], (y - box[1]) / box[3]
    # They must also lie close together: of a scan that faces away, the foremost points are both ends of its boundary,
    # whose median lies in the middle of the face.
    apart = np.quantile(np.linalg.norm(vertices[foremost] - tip, axis=1), 0.8)
    if not (TIP_X[0] <= fraction_x <= TIP_X[1] and TIP_Y[0] <= fraction_y <= TIP_Y[1] and apart <= TIP_RADIUS):
        raise WrongAxes(f"{path}: the foremost points must be the nose tip, together in the middle of the face {box}; "
                        f"they are about pixel ({x:.0f}, {y:.0f}), {apart:.0f} mm apart. Name another frame with "
                        "--neutral, or --exclude the subject")
    return tip


def _images(raw: Path, expression: str, out: Path, options: Options, rows: list[Row]) -> list[Frame]:
    """Write the crops of one video -> its frames with a face, their motion known."""
    folder = raw / expression
    there = folder.glob("[!.]*.*") if folder.is_dir() else ()       # ._000.jpg is macOS's, and no frame
    numbers = sorted({p.stem for p in there if p.suffix in (".jpg", ".wrl")})
    if not numbers:
        rows.append(Row(raw.name, expression, "", "skipped", "no such folder, or no frames in it"))
    frames: list[Frame] = []
    thumbnails: dict[str, np.ndarray] = {}
    for number in numbers:
        path = folder / f"{number}.jpg"
        try:
            image = read_image(path)
        except ValueError as error:
            rows.append(Row(raw.name, expression, number, "skipped", str(error)))
            continue
        found = detect.detect_faces(image, thesis=options.detector == "thesis")
        if not found:
            rows.append(Row(raw.name, expression, number, "skipped", f"{path}: no face found"))
            continue
        write_image(out / f"{expression}_{number}.jpg", crop_resize(image, found[0].box, options.size))
        frames.append(Frame(expression, number, found[0].box))
        # One box for the whole video: boxes jump from frame to frame, and that is no motion.
        thumbnails[number] = crop_resize(image, frames[0].box, THUMBNAIL, "area").mean(axis=2) / 255
    return [frame._replace(motion=m) for frame, m in zip(frames, motion([thumbnails[f.number] for f in frames]))]


def motion(thumbnails: list[np.ndarray]) -> np.ndarray:
    """The motion of each frame of a video: T images (H, W) float -> (T,) float64.

    The mean absolute difference to the frame before and the frame after, averaged over a frame and its two
    neighbours on each side, because a single repeated frame is not a still face. Infinite for a video of one
    frame.
    """
    if len(thumbnails) < 2:
        return np.full(len(thumbnails), np.inf)
    steps = [np.abs(b - a).mean() for a, b in zip(thumbnails, thumbnails[1:])]
    return np.array([np.mean(steps[max(i - 3, 0):i + 3]) for i in range(len(thumbnails))])


def _candidates(frames: list[Frame], options: Options, neutral: tuple[str, str] | None) -> list[Frame]:
    """The frames whose scan may become the ground truth, the best first."""
    if neutral:
        return [frame for frame in frames if (frame.expression, int(frame.number)) == (neutral[0], int(neutral[1]))]
    early: list[Frame] = []
    for expression in EXPRESSIONS:
        video = [frame for frame in frames if frame.expression == expression]
        early += video[:options.neutral_window or None]
    return sorted(early, key=lambda frame: frame.motion)        # stable: ties go to the earlier frame


def subject_generator(seed: int, name: str) -> np.random.Generator:
    """A generator for each subject: its points do not depend on the order of the workers."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")])


def as_settings(options: Options) -> dict[str, Any]:
    """The options for dataset.json, without those that are fields of DatasetInfo."""
    named = ("points", "size", "seed", "order")
    return {key: value for key, value in dataclasses.asdict(options).items() if key not in named}
