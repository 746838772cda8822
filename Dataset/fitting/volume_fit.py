"""From a volume to "this subject": the built-in face fitted to the volume's surface (Dataset/fitting/scan_fit.py), from any side.

The surface is a closed one, of which the camera sees half; what is hidden is the network's guess and counts as well. It
is turned upright and to the front before it is fitted: by the turn with which the mean face's solid comes to lie best,
of many tried. As in Dataset/fitting/depth_fit.py its size is brought to the mean face's first, since a crop shows none.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from Dataset.errors import NotFittable
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.fitting.scan_fit import COARSE as FITTED, fit_model
from Dataset.geometry.blas import one_thread
from Dataset.geometry.mesh import Mesh
from Dataset.geometry.scan_surface import ScanSurface
from Dataset.geometry.transforms import Similarity, rotation_from_euler, umeyama
from Dataset.representations.volume import LEVEL, Frame, decode, estimate_frame, solid

TURNS = tuple((yaw, roll) for yaw in (0, -30, 30, -60, 60, -85, 85) for roll in (0, -35, 35))      # degrees
ROUNDS, LAST = 10, 20       # of ICP from each turn, and more from the best
FINE, COARSE = 96, 32       # voxels a side that are enough for the fit, and for its start
MIN_VALUE = 0.004               # share of the voxels that are inside: less is no face
SIZES = (0.6, 1.6)          # that a surface may have, times the mean face's
SIDE = 16                   # of the grid whose solid finds the start


class VolumeFit(NamedTuple):
    """identity (200,), expression (84,); vertices (V, 3) float64: the fitted head in the volume's voxel coordinates;
    residual: mean distance (mm) of the fitted grid to the surface."""

    identity: np.ndarray
    expression: np.ndarray
    vertices: np.ndarray
    residual: float


def fit_volume(values: np.ndarray, frame: Frame | None = None, model: FaceModel | None = None) -> VolumeFit:
    """Fit pose, identity and expression to a volume (S, S, D) of sigmoid values, as `representations.volume.decode`
    takes it; frame: where it stands, None for a guess.

    ValueError "empty" where less than LEAST of it is inside, or no surface is there.
    """
    model = load_face_model() if model is None else model
    values = np.asarray(values)
    if values.ndim == 3 and np.count_nonzero(values > (LEVEL * 255 if values.dtype == np.uint8 else LEVEL)
                                             ) < MIN_VALUE * values.size:
        raise NotFittable(f"volume: empty: a face fills at least {MIN_VALUE:.1%} of it")
    frame = estimate_frame(values.shape[0], values.shape[2]) if frame is None else frame
    mesh = _surface(values, frame, FINE)
    with one_thread():
        start = _start(_surface(values, frame, COARSE).vertices, model)
        # about the camera: everything larger by the same factor gives the same image
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
    """Where the mean face's solid lies in the points (N, 3) mm of a surface: ICP with scale from each of TURNS, centre
    on centre; the best is the one with the least mean distance, there and back."""
    face, tree = solid(model.mean, model, SIDE).vertices, cKDTree(surface)
    middle, aim = face.mean(0), surface.mean(0)
    radius = [float(np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())) for x in (face, surface)]
    scale = float(np.clip(radius[1] / radius[0], *SIZES))
    best, least = Similarity.identity(), np.inf
    for yaw, roll in TURNS:
        rotation = rotation_from_euler(yaw, 0, roll)
        pose = _closer(Similarity(scale, rotation, aim - scale * rotation @ middle), face, tree, ROUNDS)
        placed = pose.apply(face)
        error = (tree.query(placed)[0].mean() + cKDTree(placed).query(surface)[0].mean()) / pose.scale
        if error < least - 1e-6:
            best, least = pose, error
    return _closer(best, face, tree, LAST)


def _closer(pose: Similarity, face: np.ndarray, tree: cKDTree, rounds: int) -> Similarity:
    """Rounds of ICP with scale, face (K, 3) to the tree's points; the farther apart a pair the less it counts."""
    for sigma in np.geomspace(15.0, 5.0, rounds):
        placed = pose.apply(face)
        distance, index = tree.query(placed)
        pose = umeyama(placed, tree.data[index], 1 / (1 + (distance / sigma) ** 2) ** 2).compose(pose)
        pose = Similarity(float(np.clip(pose.scale, *SIZES)), pose.rotation, pose.translation)
    return pose
