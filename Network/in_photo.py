"""One photo -> the face that it shows, and where its landmarks lie: what `evaluate.py --photos` judges, photo by photo.
"""
from __future__ import annotations

import contextlib
import dataclasses
from typing import Callable, NamedTuple

import numpy as np
from keras import ops

from Dataset.representations.points import grid_landmarks
from Network import get_network
from Network.fitted import FITTERS, face_in_photo, mean_face
from Network.flags import from_dict
from Network.grid import resample
from Network.loading import Loaded, per_pixel
from Network.predict import NoFace
from Network.streaming import compiled, streams

OWN_SURFACE = ("pix2pix", "vrn")        # networks whose answer is the face itself, with no model behind it
SAYS_WHERE = ("vrn",)                   # of these, those whose fit also says where the landmarks lie


class PhotoFace(NamedTuple):
    """points: the face in the photo, an ordered grid (N, 3) float32 with its expression where the network knows it, or
    the points (M, 3) of a depth map or of a volume's front; unit sphere. landmarks (68, 2) float32 in the photo's
    sides, (0, 0) its top left corner; None where the network does not say. seen: whether the network sees a face; else
    points are the mean face."""

    points: np.ndarray
    landmarks: np.ndarray | None = None
    seen: bool = True


def photo_reader(loaded: Loaded) -> Callable[[np.ndarray], PhotoFace]:
    """A picture (S, S, 3) float32 in [0, 1], BGR, stretched -> its `PhotoFace`. Compiled and traced at once, so that
    the first call takes no longer than the others."""
    if loaded.config.get("network") == "coarse":
        from Network.coarse_stream import photo_reader as iterated_reader
        face_of = iterated_reader(loaded)           # traced there

        def coarse(image: np.ndarray) -> PhotoFace:
            points, landmarks = face_of(image)
            return PhotoFace(points, landmarks, landmarks is not None)
        return coarse
    reader = _per_pixel if per_pixel(loaded.config) else _streaming if streams(loaded) else _points
    read = reader(loaded)
    read(np.zeros((loaded.image_size, loaded.image_size, 3), np.float32))
    return read


def place_landmarks(points: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Where the landmarks lie (68, 2) float32: those of the ordered grid `points` (N, 3) as an affine camera sees it,
    moved as the coarser grid `places` (K, 2) lies beside that (bilinear: places alone would cut off every curve)."""
    def seen(of: np.ndarray) -> np.ndarray:
        return np.concatenate([of, np.ones((len(of), 1))], 1)
    few = seen(resample(points, round(len(places) ** 0.5)).astype(np.float64))
    camera = np.linalg.lstsq(few, places, rcond=None)[0]
    beside = np.pad(places - few @ camera, ((0, 0), (0, 1)))
    return (seen(grid_landmarks(points)) @ camera + grid_landmarks(beside)[:, :2]).astype(np.float32)


def _per_pixel(loaded: Loaded) -> Callable[[np.ndarray], PhotoFace]:
    model, name = loaded.telling or loaded.model, loaded.config["network"]
    run, fitter = compiled(lambda images: model(images, training=False)), FITTERS[name](loaded.calibration)

    def read(image: np.ndarray) -> PhotoFace:
        found = run(ops.convert_to_tensor(image[None]))
        output, *evidence = (np.asarray(part)[0] for part in (found if loaded.telling else [found]))
        try:
            if name in OWN_SURFACE:         # more exact than the model that is fitted to it
                points, landmarks = face_in_photo(output, name), None
            else:
                person = fitter.fit([fitter.read(output, *evidence)])
                points, landmarks = person.in_photo, person.landmarks
        except NoFace:
            return PhotoFace(mean_face(), None, False)
        if name in SAYS_WHERE:
            with contextlib.suppress(NoFace):
                landmarks = fitter.read(output).landmarks
        return PhotoFace(points, landmarks)
    return read


def _streaming(loaded: Loaded) -> Callable[[np.ndarray], PhotoFace]:
    network = get_network(loaded.config["network"])
    config = dataclasses.replace(from_dict(network.Config, loaded.config["model"]), images=1)
    model = network.build_step(config)
    model.set_weights(loaded.model.get_weights())
    states = network.initial_states(config, 1)
    run = compiled(lambda images: model({"images": images, "states": states}, training=False))

    def read(image: np.ndarray) -> PhotoFace:
        output = run(ops.convert_to_tensor(image[None, None]))
        points = np.asarray(output["points"][0], np.float32)
        if "places" not in output:
            return PhotoFace(points)
        return PhotoFace(points, place_landmarks(points, np.asarray(output["places"][0, 0])))
    return read


def _points(loaded: Loaded) -> Callable[[np.ndarray], PhotoFace]:
    return lambda image: PhotoFace(loaded.predict(np.stack([image] * (loaded.images or 1))[None])[0])
