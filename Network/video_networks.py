"""The networks of this house as `Network.video.FaceNetwork`: one crop of a video's frame -> where its face lies."""
from __future__ import annotations

from typing import Any, Callable, NamedTuple

import numpy as np

from Dataset.face_model import FaceModel, load_face_model
from Dataset.images import minmax
from Dataset.joint_fit import FitOptions, JointFit, joint_fit
from Dataset.pose import Pose, pose_numbers
from Dataset.renders import coarse_grid
from Dataset.representations import uvmap
from Dataset.representations.points import grid_triangles
from Network.grid import resample
from Network.lite import one_by_one
from Network.video import Cut, FaceAnswer, FaceNetwork

NET = 64                # side of the ordered grid that is drawn
STRIDE = 4              # of a map's pixels that are fitted: a third of the time of 2
SURE = 0.15             # of a crop that is face: a network that sees as much is as sure as can be
LEAST = 0.02            # with less of it there is nothing to fit
_NOWHERE = FaceAnswer(np.full((256, 2), np.nan), 0.0)


def make_face_network(loaded: Any) -> FaceNetwork:
    """A loaded model (Network/loading.py) for videos. ValueError for one that does not say where a face lies."""
    name = loaded.config.get("network")
    margin = loaded.config.get("model", {}).get("crop_margin", 1.0)
    if name == "uvnet":
        run = one_by_one(loaded.model)
        return MapsNetwork(lambda image: run(image[None])[0], loaded.image_size, margin)
    if name == "coarse":
        from Network.coarse_stream import iterated_of
        return CoarseNetwork(iterated_of(loaded, video=True), margin)
    if name == "compact":
        return PlacesNetwork(loaded, margin)
    raise ValueError(f"{loaded.source}: does not say where a face lies in a frame; uvnet, coarse and compact do")


def face_triangles(model: FaceModel) -> np.ndarray:
    """The triangles (F, 3) of the model that show the face: no ears, scalp, neck, lashes."""
    return model.triangles[uvmap.atlas(model).face != uvmap.NONE]


class MapsNetwork:
    """`uvnet`: the model is fitted to each frame's map alone, from where the last frame's fit left off.

    run: a crop (S, S, 3) float32 in [0, 1] -> (S, S, 4 or 6), as `Network.uvnet.read_maps` takes it.
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], size: int, margin: float = 1.0,
                 options: FitOptions = FitOptions(components=60, iterations=3)) -> None:
        self.size, self.margin, self._run, self._options = size, margin, run, options
        self._model = load_face_model()
        self.triangles = face_triangles(self._model)

    def __call__(self, cut: Cut, state: Any) -> FaceAnswer:
        from Network.fitted import pixel_weights
        from Network.uvnet import read_maps
        maps = read_maps(self._run(minmax(cut.image)))
        share = float(maps.mask.mean())
        if share < LEAST:
            return _NOWHERE
        weights = None if maps.log_variance is None else pixel_weights(maps.uv, maps.log_variance)
        try:
            fit = joint_fit([uvmap.decode(maps.uv, maps.mask, weights, STRIDE)], self._model, self._options,
                            None if state is None else _moved(state, cut.box, self.size))
        except ValueError:              # too few pixels, or all on one spot
            return _NOWHERE
        face, pose = fit.face(0, self._model), fit.pose(0)
        turned = face @ pose.rotation.T
        seen = np.column_stack([pose.project(face), turned[:, 2] * pose.scale]) / self.size
        return FaceAnswer(pose.project(coarse_grid(self._model) @ face) / self.size, min(1.0, share / SURE),
                          fit.landmarks(0, self._model) / self.size, seen, pose_numbers(pose, cut.box, self.size),
                          np.concatenate([fit.identity, fit.expressions[0]]), maps.uv, _Fitted(fit, cut.box))


class _Fitted(NamedTuple):
    fit: JointFit
    box: np.ndarray


def _moved(state: _Fitted, box: np.ndarray, size: int) -> JointFit:
    """A fit in one crop as it is in another one of the same frame."""
    factor = state.box[2] / box[2]
    shift = (state.box[:2] - box[:2]) * size / box[2]
    return state.fit._replace(scales=state.fit.scales * factor, translations=state.fit.translations * factor + shift)


class CoarseNetwork:
    """`coarse`: one pass a frame from the last frame's face; a new face begins with the whole iteration (Endrawis 2018,
    2.5). iterated: a :class:`Network.iterate.Iterated`."""

    def __init__(self, iterated: Any, margin: float = 1.15) -> None:
        from Network.iterate import FrameByFrame
        self._follow, self._model = FrameByFrame(iterated), iterated.unit.model
        self.size, self.margin = iterated.size, margin
        self.triangles = face_triangles(self._model)

    @property
    def rendering(self) -> float:
        """Seconds that the renderings of guesses have taken so far."""
        return self._follow.iterated.rendering

    def __call__(self, cut: Cut, state: Any) -> FaceAnswer:
        from Dataset.representations.coefficients import POSE, SHAPE, decode_pose, linear
        from Network.iterate import NoAnswer
        x, y, side = (int(v) for v in cut.box)
        try:
            found = self._follow.follow(minmax(cut.image), (x, y, side, side), state)
        except NoAnswer:
            return _NOWHERE
        pose = decode_pose(found.coefficients[POSE], 1.0)
        face = linear(self._model, "vertices")(found.coefficients).T.astype(np.float64)
        turned = face @ pose.rotation.T
        seen = np.column_stack([pose.project(face), turned[:, 2] * pose.scale])
        return FaceAnswer(found.places, None, found.landmarks, seen, pose_numbers(pose, cut.box, 1),
                          found.coefficients[SHAPE], None, found)


class PlacesNetwork:
    """`compact`, which says a face and where its places lie: the memory gathers the person over the first `most` frames
    (it was trained on no more), then each frame is seen as the next one of those."""

    def __init__(self, loaded: Any, margin: float = 1.0, most: int = 8) -> None:
        from Network.streaming import Reconstructor
        self._stream = Reconstructor(loaded)
        self.size, self.margin, self._most = loaded.image_size, margin, most
        self.triangles = grid_triangles(NET)

    def __call__(self, cut: Cut, state: Any) -> FaceAnswer:
        from Network.in_photo import place_landmarks
        stream, count = self._stream, 0 if state is None else state[1]
        if state is None:
            stream.reset()
        memory = stream._states if state is None else state[0]
        output = stream._step(minmax(cut.image)[None, None], memory)
        if "places" not in output:
            raise ValueError(f"{stream.loaded.source}: does not say where a face lies in a frame")
        points, places = np.asarray(output["points"][0], np.float64), np.asarray(output["places"][0, 0], np.float64)
        if count < self._most:
            memory = output["states"]
        if not (np.isfinite(points).all() and np.isfinite(places).all()):
            return _NOWHERE
        few = resample(points, round(len(places) ** 0.5)).astype(np.float64)
        pose = _pose_of(few, places)
        drawn = resample(points, NET).astype(np.float64)
        depth = (drawn @ pose.rotation.T)[:, 2] * pose.scale
        numbers = pose_numbers(pose, cut.box, 1)
        numbers[3] = np.nan                     # of the unit sphere, not of millimetres
        return FaceAnswer(places, None, place_landmarks(points, places),
                          np.column_stack([resample(places, NET), depth]), numbers, None, None, (memory, count + 1))


def _pose_of(points: np.ndarray, places: np.ndarray) -> Pose:
    """Weak perspective by least squares: points (K, 3), places (K, 2)."""
    centre, middle = points.mean(0), places.mean(0)
    affine = np.linalg.lstsq(points - centre, (places - middle) * (1.0, -1.0), rcond=None)[0].T
    u, s, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    rotation, scale = np.vstack([rows, np.cross(rows[0], rows[1])]), float(s.mean())
    return Pose(rotation, scale, middle - (rows @ centre) * scale * (1.0, -1.0))
