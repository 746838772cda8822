"""The face model fitted to the surface of a depth map (Dataset/fitting/scan_fit.py).

Predicted depth has no absolute scale: with the assumed camera a face may be a fifth too large, more than the prior of
the fit allows. Scaling a surface about the camera does not change its image. So the surface is first scaled to the size
of the mean face, and the identity explains the remaining difference.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from Dataset.blas import one_thread
from Dataset.errors import NotFittable
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.fitting.scan_fit import COARSE, Fit, fit_model, start_from_tip
from Dataset.geometry.camera import Camera
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.geometry.transforms import Similarity, umeyama
from Dataset.representations import points
from Dataset.representations.depth import triangulate

ROUNDS = 10             # iterations of ICP with scale; three reduce 20 % to 2 %
SIZES = (0.6, 1.6)      # valid range of the surface's size, relative to the mean face
MIN_PIXELS = 200        # with a depth, at least


class DepthFit(NamedTuple):
    """fit: of the face model to the surface (`Dataset.fitting.scan_fit.Fit`), whose points are the map's times `size`
    about the camera; size: 1 where the map's was right. `fit.pose` leads from the head frame to that scaled surface."""
    fit: Fit
    size: float

    def grid(self, side: int = points.SIZE, model: FaceModel | None = None) -> np.ndarray:
        """The subject's neutral, frontal face as the ordered grid (side * side, 3) float64 mm."""
        model = load_face_model() if model is None else model
        return points.decode(points.encode(model.shape(self.fit.identity), side, model))


def fit_depth(depth: np.ndarray, camera: Camera, model: FaceModel | None = None, sized: bool = False) -> DepthFit:
    """Fit pose, identity and expression to a depth map (H, W) mm of a face, NaN for none, seen within 30 degrees of the
    front.

    camera  the true one, or `representations.depth.assumed_camera` of a map decoded without the true one
    sized   True: the map's millimetres are true

    ValueError "no depth" where fewer than MIN_PIXELS pixels have one, or they make no surface.
    """
    model = load_face_model() if model is None else model
    if np.count_nonzero(np.isfinite(depth)) < MIN_PIXELS:
        raise NotFittable(f"no depth: a face needs at least {MIN_PIXELS} pixels with a depth, "
                          f"received {np.count_nonzero(np.isfinite(depth))}")
    mesh = triangulate(depth, camera)
    surface = ScanSurface(mesh, "depth map")
    with one_thread():
        start = start_from_tip(surface, model)
        if sized:
            return DepthFit(fit_model(surface, model=model, step=COARSE, start=start), 1.0)
        start = _sized(start, surface, model)
        size, eye = 1 / start.scale, camera.position()
        surface = ScanSurface(Mesh(eye + size * (mesh.vertices - eye), mesh.triangles), "depth map")
        start = Similarity(size, np.eye(3), eye - size * eye).compose(start)
        return DepthFit(fit_model(surface, model=model, step=COARSE, start=start), size)


def _sized(pose: Similarity, surface: ScanSurface, model: FaceModel) -> Similarity:
    """The pose and scale of the mean face on the surface, by ICP with scale."""
    grid = points.decode(points.encode(model.mean, 32, model))
    for sigma in np.geomspace(15.0, 5.0, ROUNDS):
        position = pose.apply(grid)
        found = surface.nearest(position)
        fraction = np.where(found.boundary, 0.02, 1.0) / (1 + (found.distance / sigma) ** 2) ** 2
        pose = umeyama(position, found.points, fraction + 1e-9).compose(pose)
        pose = Similarity(float(np.clip(pose.scale, *SIZES)), pose.rotation, pose.translation)
    return pose
