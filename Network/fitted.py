"""Networks that answer per pixel -> one person's face: what they say of each photo, fitted together.

Ronkainen 2017, chapter 5, names a mesh from the UV map as future work. `uvnet` gives correspondences, which
`Dataset.joint_fit` fits at once, one identity for all photos; `pix2pix` gives surfaces and `vrn` volumes, to which the
model is fitted one by one, and the identities are averaged.
"""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from Dataset.correspondences import Correspondences, checked
from Dataset.depth_fit import MIN_PIXELS, fit_depth
from Dataset.face_model import FaceModel, load_face_model
from Dataset.joint_fit import FitOptions, JointFit, joint_fit
from Dataset.pose import Pose
from Dataset.representations import points, uvmap
from Dataset.representations.depth import decode_depth, guess_camera, large_parts, surface_points
from Dataset.renders import coarse_grid
from Dataset.transforms import to_unit_sphere
from Network.calibration import Calibration
from Network.evidence import triangulated
from Network.predict import NoFace

LEAST_PIXELS = 150      # of a face, of 128x128: with fewer the photo shows none
MOST_PHOTOS = 16        # that are fitted together: the newest
#: a photo's fit takes four fifths of what all 200 components, 4 steps and every second pixel take, and to a network's
#: maps errs as much (docs/results.md)
STRIDE = 3              # of the pixels that are fitted
FIT = FitOptions(components=80, iterations=3)
CLOUD = 16000           # points of a depth map's surface: not as many as a grid has
STRANGEST = 12.0        # standard deviations from the mean face: a fit farther off went wrong
WITHIN = 4.0            # a pixel's share of the atlas is believed within this factor of the face's median


class Person(NamedTuple):
    """points (N, 3) float32, the neutral face in the unit sphere; in_photo (N, 3) float32, likewise, the face in the
    last photo with its expression, None where nobody says; places (256, 2) float32, where a 16x16 grid of the face lies
    in the last crop, in its sides, None where nobody says; landmarks (68, 2) likewise; state: to go on from; pose: of
    the head in the last crop, in its sides for px, None where nobody says."""

    points: np.ndarray
    in_photo: np.ndarray | None = None
    places: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    state: Any = None
    pose: Pose | None = None


def grid_of(vertices: np.ndarray, model: FaceModel) -> np.ndarray:
    """The ordered grid (16384, 3) float32 of vertices (V, 3) mm, in the unit sphere."""
    return to_unit_sphere(points.decode(points.encode(vertices, model=model)))[0].astype(np.float32)


class Fitter:
    """`read` each photo's answer, then `fit` them. calibration: what a fitted identity says of the true one; None: that
    it is the true one."""

    def __init__(self, calibration: Calibration | None = None) -> None:
        self._calibration = calibration

    def expected(self, identity: np.ndarray, photos: int, evidence: np.ndarray | None = None) -> np.ndarray:
        """Who is expected behind the identity (n,) fitted to so many photos, or what these tell together (F,): (n,)."""
        return identity if self._calibration is None else self._calibration.expected(identity, photos, evidence)

    def neutral(self, identity: np.ndarray, photos: int, model: FaceModel) -> np.ndarray:
        """The grid (N, 3) of who is expected behind the identity (n,) fitted to so many photos."""
        return grid_of(model.shape(self.expected(identity, photos)), model)


class Mapped(NamedTuple):
    """What `uvnet` says of one photo: where the face's places are seen, and, of a network that finds places, what these
    tell of the person (F,)."""

    pairs: Correspondences
    evidence: np.ndarray | None = None


class UVFitter(Fitter):
    """`uvnet`: one joint fit of all photos."""

    def read(self, output: np.ndarray, evidence: np.ndarray | None = None) -> Mapped:
        """A photo's maps (S, S, 4 or 6), and what its places tell. NoFace where the mask is all but empty, or what it
        shows is no face's: too little of it, or all in one spot."""
        from Network.uvnet import read_maps
        maps = read_maps(output)
        if maps.mask.sum() < LEAST_PIXELS * maps.mask.size / 128 ** 2:
            raise NoFace("no face: the network sees none")
        weights = None if maps.log_variance is None else pixel_weights(maps.uv, maps.log_variance)
        try:
            return Mapped(checked(uvmap.decode(maps.uv, maps.mask, weights, STRIDE), "no face"), evidence)
        except ValueError as error:
            raise NoFace(str(error)) from None

    def identity(self, photos: Sequence[Mapped], state: JointFit | None = None) -> tuple[np.ndarray, JointFit]:
        """The fitted identity (n,), as it is, and the fit; state: of the last one, of all photos but the last."""
        start = state if state is not None and len(state.rotations) <= len(photos) else None
        fit = joint_fit([photo.pairs for photo in photos], load_face_model(), FIT, start)
        return fit.identity, fit

    def fit(self, photos: Sequence[Mapped], state: JointFit | None = None) -> Person:
        """One person from the readings of at least one photo; state: of the last `fit`, of all of them but the last."""
        model, (identity, fit) = load_face_model(), self.identity(photos, state)
        last, size = len(photos) - 1, photos[-1].pairs.size
        told = [photo.evidence for photo in photos]
        evidence = None if any(one is None for one in told) else triangulated(np.stack(told))
        expected = self.expected(identity, len(photos), evidence)
        face, pose = fit.face(last, model), fit.pose(last)
        pose = pose._replace(scale=pose.scale / size, translation=pose.translation / size)
        # where it lies is what was seen; what it is like in space is what is expected behind that
        return Person(grid_of(model.shape(expected), model),
                      grid_of(model.shape(expected, fit.expressions[last]), model),
                      (fit.project(last, coarse_grid(model) @ face) / size).astype(np.float32),
                      (fit.landmarks(last, model) / size).astype(np.float32), fit, pose)


def mean_identity(identities: Sequence[np.ndarray]) -> np.ndarray:
    """The mean (n,) of identities fitted to surfaces, of those no longer than STRANGEST; of none 0, the mean face. Fits
    that went well lie between 4 and 7 standard deviations from it (the prior draws them there, people lie at 14); one
    that took a cheek in profile for a face has 19 or 27, and would outweigh all the others."""
    plausible = [identity for identity in identities if np.linalg.norm(identity) <= STRANGEST]
    return np.mean(plausible, axis=0) if plausible else np.zeros_like(identities[0])


class DepthFitter(Fitter):
    """`pix2pix`: a fit to each photo's surface, the mean of their identities."""

    def read(self, output: np.ndarray) -> np.ndarray:
        """A photo's depth (S, S, 1) in [-1, 1] -> identity (200,), then the face's vertices flat, mm. NoFace where it
        has no depth, or none that is a face's."""
        depth = large_parts(decode_depth(np.asarray(output, np.float32)))
        try:
            fit = fit_depth(depth, guess_camera(len(depth))).fit
        except ValueError as error:
            raise NoFace(f"no face: {error}") from None
        model = load_face_model()
        return np.concatenate([fit.identity, model.shape(fit.identity, fit.expression).ravel()])

    def identity(self, photos: Sequence[np.ndarray], state: Any = None) -> tuple[np.ndarray, None]:
        """The mean of the fitted identities (n,), as `mean_identity` takes it; no state."""
        return mean_identity([photo[:len(load_face_model().identity)] for photo in photos]), None

    def fit(self, photos: Sequence[np.ndarray], state: Any = None) -> Person:
        """One person from the readings of at least one photo."""
        model, (identity, _) = load_face_model(), self.identity(photos)
        return Person(self.neutral(identity, len(photos), model),
                      grid_of(photos[-1][len(identity):].reshape(-1, 3), model))


def _volume_fitter(calibration: Calibration | None = None) -> Fitter:
    from Network.volume_fitted import VolumeFitter       # which takes Person from here
    return VolumeFitter(calibration)


#: network -> a new fitter, of a calibration or None: how its answers become a person
FITTERS: dict[str, Callable[..., Any]] = {"uvnet": UVFitter, "pix2pix": DepthFitter, "vrn": _volume_fitter}


def pixel_weights(uv: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    """How much each pixel is worth, 1 / px^2: uv (S, S, 2), NaN off the face, log_variance (S, S, 2) of u and v ->
    (S, S) float64, 0 off the face. A variance in the atlas becomes one in the picture by the share of the atlas that
    the pixel shows."""
    down, across = np.gradient(uv.astype(np.float64), axis=(0, 1))
    share = np.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])       # of the square, a pixel
    known = np.isfinite(share)
    middle = np.median(share[known]) if known.any() else 1.0
    share = np.clip(np.where(known, share, middle), middle / WITHIN, middle * WITHIN)
    variance = np.exp(log_variance.astype(np.float64)).mean(-1)
    return np.where(np.isfinite(variance), np.maximum(share, 1e-12) / np.maximum(variance, 1e-12), 0.0)


def faces_of_people(outputs: np.ndarray, network: str, calibration: Calibration | None = None,
                    evidence: np.ndarray | None = None) -> np.ndarray:
    """What a network says of B people's photos (B, T, S, S, C), and, of one that finds places, what these tell
    (B, T, F) -> their neutral faces (B, N, 3) float32. A photo without a face says nothing; a person of whom nothing is
    said gets the mean face."""
    fitter, faces = FITTERS[network](calibration), []
    for number, person in enumerate(outputs):
        found = []
        for t, output in enumerate(person):
            try:
                found.append(fitter.read(output, *([] if evidence is None else [evidence[number, t]])))
            except NoFace:
                continue
        faces.append(fitter.fit(found).points if found else mean_face())
    return np.stack(faces)


def face_in_photo(output: np.ndarray, network: str) -> np.ndarray:
    """What a network says of one photo (S, S, C) -> the face as it is there: an ordered grid with its expression (N, 3)
    float32, or, of `pix2pix` and `vrn`, the points (M, 3) of the surface that it sees itself, without a model; unit
    sphere. NoFace where it sees none."""
    if network == "pix2pix":
        depth = large_parts(decode_depth(np.asarray(output, np.float32)))
        if np.isfinite(depth).sum() < MIN_PIXELS:
            raise NoFace("no face: the network sees none")
        try:
            cloud = surface_points(depth, guess_camera(len(depth)), CLOUD, np.random.default_rng(0))
        except ValueError as error:
            raise NoFace(f"no face: {error}") from None
        return to_unit_sphere(cloud)[0].astype(np.float32)
    if network == "vrn":
        from Network.volume_fitted import visible_points
        return visible_points(output)
    fitter = FITTERS[network]()
    return fitter.fit([fitter.read(output)]).in_photo


def mean_face() -> np.ndarray:
    """The grid (16384, 3) float32 of the face of which nothing is known."""
    model = load_face_model()
    return grid_of(np.asarray(model.mean, float), model)
