"""`coarse` (Endrawis 2018): coefficients, iterated over each photo; the identities of a subject's photos are
fused. The paper knows single photos and videos only: both kinds of fusion are ours."""
from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from Dataset.face_model.model import BUILT_IN, load_face_model
from Dataset.fitting.multi_view import FitOptions, joint_fit
from Dataset.geometry.pose import pose_numbers
from Dataset.geometry.transforms import to_unit_sphere
from Dataset.representations.coefficients import (COUNT, EXPRESSION, GRID, IDENTITY, POSE, SHAPE, decode_pose,
                                                  linear, project, recropped)
from Dataset.representations.correspondences import Correspondences
from Dataset.representations.points import SIZE
from Dataset.synthesis.sidecar import model_hash
from Network.config.declared import declared
from Network.config.flags import from_dict
from Network.engine.loaded import Loaded
from Network.engine.run import run_of
from Network.inference.base import BATCH, Face, Predictor
from Network.inference.iterate import FrameByFrame, Iterated, Iterations, NoAnswer
from Network.inference.photos import MAX_RECROPS, Crop, NoFace, Scored, recrop, square_crops
from Network.inference.rendered import face_triangles
from Network.models.registry import NETWORKS
from Network.video.video import Cut, FaceAnswer

MAX_PHOTOS = 64         # that are kept: the newest
FUSIONS = ("mean", "joint")
FIT_SIDE, FIT_ERROR = 128, 2.0      # px: side of the crop in which the joint fit sees the keypoints, their error there
PASSES_AFTER_RECROP = 2             # the face has moved in the crop, not changed
# How far the second pass, from the mean face on, moves the face, RMS in crop sides: a face up to the first, none from
# the second on. Own renders (tests/bench/find_face.py, seed 101), 415 crops by the detector, at the face and at random,
# re-cropped up to twice: of the 259 whose landmarks then err by less than 10 % at most 0.0110, of the 153 that lie
# elsewhere (above 15 %) at least 0.0122, of 90 % of them more than 0.025.
FACE, NO_FACE = 0.0115, 0.02


class CoarsePredictor(Predictor):
    """Iterated coefficients. iterations: at most so many passes over a photo, 0: the Config's; fusion: of FUSIONS, as
    `identity_of`; None: the mean. ValueError for a network of another face model than this process's."""

    network = "coarse"
    representation = "coefficients"
    fusion = "mean of the photos' identities"
    has_photo_face = has_landmarks = has_pose = has_expression = True
    dense = ("coefficients",)
    views = ("iterations", "detail")
    iterated = True
    scores_crops = True
    follows_video = True
    OPTIONS = ("iterations", "fusion")

    def __init__(self, loaded: Loaded, iterations: int = 0, fusion: str | None = None, **options: Any) -> None:
        super().__init__(loaded, **options)
        if fusion is not None and fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        self._fusion = fusion or FUSIONS[0]
        self._iterated = self._iterations(run_of(loaded), iterations)
        self._forget()

    def _iterations(self, predict: Callable[[np.ndarray], Any], iterations: int = 0) -> Iterated:
        learned = self.config.get("face_model") or model_hash(load_face_model(BUILT_IN))     # older runs lack it
        if learned != model_hash(load_face_model()):
            raise ValueError(f"{self.source}: its coefficients are of face model {learned[:12]}, this is "
                             f"{model_hash(load_face_model())[:12]}; --face-model must name the one it was trained on")
        config = from_dict(declared(NETWORKS[self.network])["Config"], self.config["model"])     # without Keras
        return Iterated(predict, self.size, iterations or config.iterations, config.tolerance,
                        feedback=config.feedback)

    def subject(self, images: Sequence[np.ndarray]) -> np.ndarray:
        crops = square_crops(images, self.size)
        self.reset()
        return self._subject(self._photos(self.inputs([crop.image for crop in crops])))

    def prefixes(self, images: Sequence[np.ndarray]) -> np.ndarray:
        crops = square_crops(images, self.size)
        self.reset()
        faces = self._photos(self.inputs([crop.image for crop in crops]))
        return np.stack([self._subject(faces[:t + 1]) for t in range(len(faces))])

    def passes(self) -> np.ndarray:
        if self._last is None:
            raise ValueError(f"{self.source}: no photo was added yet")
        return self._last.faces

    def run_iterations(self, iterations: int) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
        return lambda images, poses: self._iterated.many(images, iterations, poses)

    def single_pass(self) -> Callable[[np.ndarray], Any]:
        return self._iterated.predict

    def follower(self) -> "Follower":
        return Follower(self._iterations(run_of(self.loaded, one_by_one=True)), self._scaled, self.margin)

    def _look(self, crop: Crop) -> Scored[Iterations]:
        """The passes over a crop; those before it was re-cropped as they lie in the new crop."""
        try:
            found = self._iterated.run(self._scaled(crop.image))
            changes: np.ndarray | None = found.changes
            for _ in range(MAX_RECROPS):
                better = recrop(crop, project(found.face))
                if better is None:
                    break
                more = Iterated(self._iterated.predict, self.size, PASSES_AFTER_RECROP, self._iterated.tolerance,
                                feedback=self._iterated.feedback)
                before = np.stack([recropped(face, crop.box, better.box) for face in found.faces])
                passes = more.run(self._scaled(better.image), before[-1])
                found = Iterations(np.concatenate([before, passes.faces[1:]]),
                                   np.concatenate([found.changes, passes.changes]), passes.converged)
                crop, changes = better, None
            if changes is None:         # passes from a known face change less, also when they diverge
                changes = self._iterated.run(self._scaled(crop.image)).changes
        except NoAnswer as error:
            raise NoFace(f"{crop.source}: {error}") from None
        return Scored(crop, found, score_of(changes))

    def _update(self, answer: Iterations, crop: Crop) -> Face:
        face = answer.face
        self._last, self._faces = answer, [*self._faces, face][-MAX_PHOTOS:]
        return Face(self._subject(self._faces), crop, grid_of(face), project(face).astype(np.float32),
                    project(face, "landmarks").astype(np.float32), decode_pose(face[POSE], 1),
                    expression=face[EXPRESSION].astype(np.float64))

    def _forget(self) -> None:
        self._last: Iterations | None = None
        self._faces: list[np.ndarray] = []

    def _predict(self, inputs: np.ndarray) -> np.ndarray:
        return np.stack([self._subject(self._photos(images)) for images in inputs])

    def _photos(self, inputs: np.ndarray) -> np.ndarray:
        """Coefficients (B, 290) float32 of inputs (B, S, S, 3), NaN where the network's answer is not finite."""
        found = [last_pass(self._iterated, inputs[i:i + BATCH]) for i in range(0, len(inputs), BATCH)]
        return np.concatenate(found).astype(np.float32)

    def _subject(self, faces: Sequence[np.ndarray]) -> np.ndarray:
        """The neutral face (16384, 3) of those of the photos' faces (290,) that are finite; of none the mean face."""
        known = [face for face in faces if np.isfinite(face).all()]
        return neutral(identity_of(known, self._fusion) if known else np.zeros(IDENTITY.stop, np.float32))


def score_of(changes: np.ndarray) -> float:
    """The score of a crop by how far each pass moved the face; 1 of one pass, of which nothing is known."""
    if len(changes) < 2:
        return 1.0
    return float(np.log(max(changes[1], 1e-9) / NO_FACE) / np.log(FACE / NO_FACE))


def last_pass(iterated: Iterated, inputs: np.ndarray) -> np.ndarray:
    """What the last pass gives for inputs (B, S, S, 3): (B, 290), NaN where it is not finite."""
    try:
        return iterated.many(inputs)[-1]
    except NoAnswer:                # of one of them: the others have theirs
        if len(inputs) == 1:
            return np.full((1, COUNT), np.nan)
        return np.concatenate([last_pass(iterated, one[None]) for one in inputs])


def identity_of(faces: Sequence[np.ndarray], fusion: str = "mean") -> np.ndarray:
    """One subject's identity (200,) float64 from the faces (290,) of at least one photo.

    mean: of the photos' identities, each weighted by how much of the face it shows, (1 + cos yaw) / 2. joint: one face
    fitted to where the photos' faces lie in their crops (Dataset/fitting/multi_view.py), whose prior knows the model's
    statistics. ValueError for no face or another word.
    """
    if fusion not in FUSIONS or not len(faces):
        raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, of at least one face, got {fusion!r} and "
                         f"{len(faces)}")
    if fusion == "mean":
        weights = [0.5 + 0.5 * np.cos(np.clip(face[POSE][0], -np.pi, np.pi)) + 1e-3 for face in faces]
        return np.average([face[IDENTITY] for face in faces], axis=0, weights=weights)
    return joint_fit([keypoints_of(face) for face in faces], load_face_model(), FitOptions(perspective=False)).identity


def keypoints_of(face: np.ndarray) -> Correspondences:
    """Where a face (290,) lies in its crop: the 16x16 grid and the 68 landmarks, all equally certain."""
    model = load_face_model()
    steps = (SIZE - 1) * np.arange(GRID) / (GRID - 1)
    grid = np.concatenate([np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2),
                           np.asarray(model.grid_landmarks, float)])
    pixels = np.concatenate([project(face, what, FIT_SIDE, model) for what in ("keypoints", "landmarks")])
    return Correspondences(grid, pixels, np.full(len(grid), FIT_ERROR ** -2), FIT_SIDE)


def grid_of(face: np.ndarray) -> np.ndarray:
    """A face (290,) as an ordered grid (16384, 3) float32 in the unit sphere."""
    return to_unit_sphere(linear(load_face_model(), "grid")(face).T.astype(np.float64))[0].astype(np.float32)


def neutral(identity: np.ndarray) -> np.ndarray:
    """The same of an identity (200,), without expression."""
    face = np.zeros(POSE.stop, np.float32)
    face[IDENTITY] = identity
    return grid_of(face)


class Follower:
    """`Network.video.video.FaceNetwork`: one pass a frame from the last frame's face; a new face begins with the whole
    iteration (Endrawis 2018, 2.5). scaled: a crop (S, S, 3) uint8 -> the network's input."""

    def __init__(self, iterated: Iterated, scaled: Callable[[np.ndarray], np.ndarray], margin: float = 1.15) -> None:
        self._follow, self._model, self._scaled = FrameByFrame(iterated), iterated.unit.model, scaled
        self.size, self.margin = iterated.size, margin
        self.triangles = face_triangles(self._model)

    @property
    def rendering(self) -> float:
        """Seconds that the renderings of current estimates have taken so far."""
        return self._follow.iterated.rendering

    def __call__(self, cut: Cut, state: Any) -> FaceAnswer:
        x, y, side = (int(v) for v in cut.box)
        try:
            found = self._follow.follow(self._scaled(cut.image), (x, y, side, side), state)
        except NoAnswer:
            return FaceAnswer(np.full((256, 2), np.nan), 0.0)
        pose = decode_pose(found.coefficients[POSE], 1.0)
        face = linear(self._model, "vertices")(found.coefficients).T.astype(np.float64)
        seen = np.column_stack([pose.project(face), (face @ pose.rotation.T)[:, 2] * pose.scale])
        return FaceAnswer(found.keypoints, None, found.landmarks, seen, pose_numbers(pose, cut.box, 1),
                          found.coefficients[SHAPE], None, found)
