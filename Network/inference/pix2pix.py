"""`pix2pix` (Baby et al. 2020): depth maps; the model is fitted to each photo's surface, the identities averaged."""
from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

from Dataset.face_model.model import load_face_model
from Dataset.fitting.depth_fit import MIN_PIXELS, fit_depth
from Dataset.geometry.transforms import to_unit_sphere
from Dataset.representations.depth import assumed_camera, decode_depth, large_parts, surface_points
from Dataset.representations.points import grid_of
from Network.inference.dense import DensePredictor, Fit, mean_identity
from Network.inference.photos import NoFace
from Network.inference.readings import DepthReading

CLOUD = 16000           # points of a photo's surface: not as many as a grid has


class DepthFitted(NamedTuple):
    """A photo's fit: identity (200,); face (V, 3) float64 mm, head frame, with its expression."""

    identity: np.ndarray
    face: np.ndarray


class Pix2PixPredictor(DensePredictor[DepthFitted]):
    """Depth maps -> a fit to each."""

    network = "pix2pix"
    representation = "depth"
    fusion = "mean of the fits to each depth map"
    scaling = "unit"
    dense = ("depth",)
    maps = "depth"
    views = ("depth", "cloud", "wireframe", "surface", "strip")
    surfaces = ("fit", "points", "mesh", "poisson", "watertight")
    photo_surface = True

    def read(self, output: np.ndarray) -> DepthFitted:
        """A photo's depth (S, S, 1) in [-1, 1]. NotFittable where it has too little depth."""
        model, depth = load_face_model(), depth_of(output)
        fit = fit_depth(depth, assumed_camera(len(depth)), model).fit
        return DepthFitted(fit.identity, model.shape(fit.identity, fit.expression))

    def fit(self, readings: Sequence[DepthFitted], state: Any = None) -> Fit:
        model = load_face_model()
        identity = mean_identity([reading.identity for reading in readings])
        return Fit(grid_of(model.shape(identity), model), grid_of(readings[-1].face, model))

    def depth_map(self) -> DepthReading:
        depth = depth_of(self._last())
        return DepthReading(depth, assumed_camera(len(depth)), self._image)

    def own_surface(self, output: np.ndarray) -> np.ndarray:
        return cloud_of(output)


def depth_of(output: np.ndarray) -> np.ndarray:
    """The depth map (S, S) float32 mm of a prediction (S, S, 1), without specks; NaN for none."""
    return large_parts(decode_depth(np.asarray(output, np.float32)))


def cloud_of(output: np.ndarray) -> np.ndarray:
    """Points (CLOUD, 3) float32, even over the surface of a prediction (S, S, 1), unit sphere. NoFace or NotFittable
    where there is none."""
    depth = depth_of(output)
    if np.isfinite(depth).sum() < MIN_PIXELS:
        raise NoFace("no face: the network sees none")
    cloud = surface_points(depth, assumed_camera(len(depth)), CLOUD, np.random.default_rng(0))
    return to_unit_sphere(cloud)[0].astype(np.float32)
