"""The face model fitted to the surface of a volume (Dataset/fitting/scan_fit.py), for any head pose.

The surface is closed; its hidden half is predicted as well, and is used. It is rotated upright and to the front before
the fit, by the best of several initial rotations of the mean face's solid. As in Dataset/fitting/depth_fit.py it is
first scaled to the size of the mean face, since a crop does not determine the scale.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from Dataset.blas import one_thread
from Dataset.errors import NotFittable
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.fitting.scan_fit import COARSE as FITTED, fit_model
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.geometry.transforms import Similarity, rotation_from_euler, umeyama
from Dataset.representations.volume import LEVEL, Frame, decode, estimate_frame, solid

TURNS = tuple((yaw, roll) for yaw in (0, -30, 30, -60, 60, -85, 85) for roll in (0, -35, 35))      # degrees
ROUNDS, LAST = 10, 20       # iterations of ICP from each rotation, and further ones from the best
FINE, COARSE = 96, 32       # voxels a side for the fit, and for its initial pose
MIN_INSIDE = 0.004               # fraction of the voxels that are inside, at least
SIZES = (0.6, 1.6)          # valid range of the surface's size, relative to the mean face
SIDE = 16                   # of the grid whose solid gives the initial pose


class VolumeFit(NamedTuple):
    """identity (200,), expression (84,); vertices (V, 3) float64: the fitted head in the volume's voxel coordinates;
    residual: mean distance (mm) of the fitted grid to the surface."""

    identity: np.ndarray
    expression: np.ndarray
    vertices: np.ndarray
    residual: float


def fit_volume(values: np.ndarray, frame: Frame | None = None, model: FaceModel | None = None) -> VolumeFit:
    """Fit pose, identity and expression to a volume (S, S, D) of sigmoid values, as `representations.volume.decode`
    takes it; frame: of the volume; None: the assumed one.

    ValueError "empty" if less than MIN_INSIDE of it is inside, or there is no surface.
    """
    model = load_face_model() if model is None else model
    values = np.asarray(values)
    if values.ndim == 3 and np.count_nonzero(values > (LEVEL * 255 if values.dtype == np.uint8 else LEVEL)
                                             ) < MIN_INSIDE * values.size:
        raise NotFittable(f"volume: empty: a face fills at least {MIN_INSIDE:.1%} of it")
    frame = estimate_frame(values.shape[0], values.shape[2]) if frame is None else frame
    mesh = _surface(values, frame, FINE)
    with one_thread():
        start = _start(_surface(values, frame, COARSE).vertices, model)
        # scaled about the camera, which does not change the image
        turn, size, eye = start.rotation, 1 / start.scale, frame.camera.position()
        upright = Mesh((eye + size * (mesh.vertices - eye)) @ turn, mesh.triangles)
        fit = fit_model(ScanSurface(upright, "volume"), model=model, step=FITTED)
    world = eye + (fit.vertices(model) @ turn.T - eye) / size
    return VolumeFit(fit.identity, fit.expression, frame.voxels(world), fit.residual)


def _surface(values: np.ndarray, frame: Frame, side: int) -> Mesh:
    """The surface in mm, of a volume with at least `side` voxels a side: of larger ones blocks are averaged."""
    block = max(1, values.shape[0] // side)
    if block > 1:
        kept = np.array(values.shape) // block
        values = np.asarray(values, np.float32) / (255 if values.dtype == np.uint8 else 1)
        values = values[tuple(slice(n * block) for n in kept)]
        values = values.reshape(kept[0], block, kept[1], block, kept[2], block).mean((1, 3, 5))
    surface = decode(values)
    return Mesh(frame.world(surface.vertices * block), surface.triangles)


def _start(surface: np.ndarray, model: FaceModel) -> Similarity:
    """The pose of the mean face's solid on the points (N, 3) mm of a surface: ICP with scale from each of TURNS, with
    aligned centres; the best has the least mean distance in both directions."""
    face, tree = solid(model.mean, model, SIDE).vertices, cKDTree(surface)
    middle, aim = face.mean(0), surface.mean(0)
    radius = [float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())) for x in (face, surface)]
    scale = float(np.clip(radius[1] / radius[0], *SIZES))
    best, minimum = Similarity.identity(), np.inf
    for yaw, roll in TURNS:
        rotation = rotation_from_euler(yaw, 0, roll)
        pose = _closer(Similarity(scale, rotation, aim - scale * rotation @ middle), face, tree, ROUNDS)
        placed = pose.apply(face)
        error = (tree.query(placed)[0].mean() + cKDTree(placed).query(surface)[0].mean()) / pose.scale
        if error < minimum - 1e-6:
            best, minimum = pose, error
    return _closer(best, face, tree, LAST)


def _closer(pose: Similarity, face: np.ndarray, tree: cKDTree, rounds: int) -> Similarity:
    """Iterations of ICP with scale from the face (K, 3) to the tree's points, with robust weights."""
    for sigma in np.geomspace(15.0, 5.0, rounds):
        placed = pose.apply(face)
        distance, index = tree.query(placed)
        pose = umeyama(placed, tree.data[index], 1 / (1 + (distance / sigma) ** 2) ** 2).compose(pose)
        pose = Similarity(float(np.clip(pose.scale, *SIZES)), pose.rotation, pose.translation)
    return pose
