"""`uvnet` (Ronkainen 2017): UV maps; all photos of a subject are fitted at once. Chapter 5 names a mesh from the UV map
as future work: `Dataset.fitting.multi_view` makes it, one identity for all photos."""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from Dataset.errors import NotFittable
from Dataset.face_model.model import load_face_model
from Dataset.fitting.multi_view import FitOptions, JointFit, joint_fit
from Dataset.geometry.pose import pose_numbers
from Dataset.representations import uvmap
from Dataset.representations.correspondences import Correspondences, checked
from Dataset.representations.points import grid_of
from Dataset.synthesis.renders import coarse_grid
from Network.engine.run import run_of
from Network.inference.dense import DensePredictor, Fit, Seen
from Network.inference.photos import NoFace
from Network.inference.readings import UVReading, read_maps
from Network.inference.rendered import face_triangles
from Network.video.video import Cut, FaceAnswer

MIN_PIXELS = 150        # of a face, of 128x128: with fewer the photo shows none
#: a photo's fit takes four fifths of what all 200 components, 4 steps and every second pixel take, and to a network's
#: maps errs as much; measured on the maps of a hybrid, not of this network (docs/archive/2026-11.md)
STRIDE = 3              # of the pixels that are fitted
FIT = FitOptions(components=80, iterations=3)
RANGE = 4.0             # a pixel's area in the atlas is limited to within this factor of the face's median
# of a video: fewer pixels and steps; the mask's part of the crop above which a face is certain, and the smallest one
VIDEO_STRIDE, VIDEO_FIT = 4, FitOptions(components=60, iterations=3)
CERTAIN, MIN_COVERED = 0.15, 0.02


class UVNetPredictor(DensePredictor[Correspondences]):
    """UV maps -> correspondences -> one joint fit."""

    network = "uvnet"
    representation = "uv"
    fusion = "joint fit to the UV maps of all photos"
    scaling = "unit"
    has_landmarks = has_pose = True
    dense = ("uv",)
    maps = "uv"
    views = ("features", "texture", "inverse", "lines", "points", "swap", "uv", "mask", "visible", "row")
    follows_video = True
    shows_layers = True

    def read(self, output: np.ndarray) -> Correspondences:
        """NoFace where the mask is all but empty."""
        maps = read_maps(output)
        if maps.mask.sum() < MIN_PIXELS * maps.mask.size / 128 ** 2:
            raise NoFace("no face: the network sees none")
        return checked(pairs_of(maps, STRIDE), "no face")

    def fit(self, readings: Sequence[Correspondences], state: Any = None) -> Fit:
        model = load_face_model()
        start = state if state is not None and len(state.rotations) <= len(readings) else None
        fit = joint_fit(readings, model, FIT, start)
        last, size = len(readings) - 1, readings[-1].size
        face, pose = fit.face(last, model), fit.pose(last)
        return Fit(grid_of(fit.neutral(model), model), grid_of(face, model),
                   (fit.project(last, coarse_grid(model) @ face) / size).astype(np.float32),
                   (fit.landmarks(last, model) / size).astype(np.float32),
                   pose._replace(scale=pose.scale / size, translation=pose.translation / size), fit)

    def uv_map(self) -> UVReading:
        maps = read_maps(self._last())
        return UVReading(maps.uv, maps.mask, maps.visible_mask)

    def _visible(self, answer: Seen) -> np.ndarray:
        return read_maps(answer.output).visible_mask

    def follower(self) -> "Follower":
        run = run_of(self.loaded, one_by_one=True)
        return Follower(lambda image: run(self._scaled(image)[None])[0], self.size, self.margin)


def pairs_of(maps: Any, stride: int) -> Correspondences:
    """The correspondences of what `read_maps` gives, weighted by their uncertainty where it is known."""
    weights = None if maps.log_variance is None else pixel_weights(maps.uv, maps.log_variance)
    return uvmap.decode(maps.uv, maps.mask, weights, stride)


def pixel_weights(uv: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    """Weight of each pixel, 1 / px^2: uv (S, S, 2), NaN off the face, log_variance (S, S, 2) of u and v -> (S, S)
    float64, 0 off the face. A variance in the atlas becomes one in the image by the area of the atlas that the pixel
    shows."""
    down, across = np.gradient(uv.astype(np.float64), axis=(0, 1))
    area = np.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])       # of the square, a pixel
    known = np.isfinite(area)
    middle = np.median(area[known]) if known.any() else 1.0
    area = np.clip(np.where(known, area, middle), middle / RANGE, middle * RANGE)
    variance = np.exp(log_variance.astype(np.float64)).mean(-1)
    return np.where(np.isfinite(variance), np.maximum(area, 1e-12) / np.maximum(variance, 1e-12), 0.0)


class Tracked(NamedTuple):
    """The last frame's fit, and the box (x, y, side) of its crop, px of the frame."""

    fit: JointFit
    box: np.ndarray


class Follower:
    """`Network.video.video.FaceNetwork`: each frame's map is fitted alone, from where the last frame's fit left off.

    run: a crop (S, S, 3) uint8 BGR -> maps (S, S, C), as `Network.inference.readings.read_maps` takes them.
    """

    rendering = 0.0

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], size: int, margin: float = 1.0,
                 options: FitOptions = VIDEO_FIT) -> None:
        self.size, self.margin, self._run, self._options = size, margin, run, options
        self._model = load_face_model()
        self.triangles = face_triangles(self._model)

    def __call__(self, cut: Cut, state: Tracked | None) -> FaceAnswer:
        maps = read_maps(self._run(cut.image))
        covered, lost = float(maps.mask.mean()), FaceAnswer(np.full((256, 2), np.nan), 0.0)
        if covered < MIN_COVERED:
            return lost
        try:
            fit = joint_fit([pairs_of(maps, VIDEO_STRIDE)], self._model, self._options,
                            None if state is None else _moved(state, cut.box, self.size))
        except NotFittable:
            return lost
        face, pose = fit.face(0, self._model), fit.pose(0)
        turned = face @ pose.rotation.T
        seen = np.column_stack([pose.project(face), turned[:, 2] * pose.scale]) / self.size
        return FaceAnswer(pose.project(coarse_grid(self._model) @ face) / self.size, min(1.0, covered / CERTAIN),
                          fit.landmarks(0, self._model) / self.size, seen, pose_numbers(pose, cut.box, self.size),
                          np.concatenate([fit.identity, fit.expressions[0]]), maps.uv, Tracked(fit, cut.box))


def _moved(state: Tracked, box: np.ndarray, size: int) -> JointFit:
    """A fit in one crop as it is in another one of the same frame."""
    factor = state.box[2] / box[2]
    shift = (state.box[:2] - box[:2]) * size / box[2]
    return state.fit._replace(scales=state.fit.scales * factor, translations=state.fit.translations * factor + shift)
