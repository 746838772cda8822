"""The faces of `pix2pix-compact` by least squares: `Network.solve` for "shape_code".

The way from how 256 places lie to the face that is seen, expression included, is all but linear
(Network/dense_face.py), and descent finds it slowly. Each training picture is an equation: what the layer sees, and the
true face as its camera sees it, brought into the head frame by the camera that the network found. So what that camera
errs by is learnt, too. The directions become the principal ones of the training pictures' faces.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple

import keras
import numpy as np
from keras import ops

from Dataset.camera import look_at_face
from Dataset.face_model import load_face_model
from Dataset.representations.volume import solid_matrix
from Dataset.scene import pose_vertices
from Dataset.shards import Shards
from Network import get_network
from Network.checkpoints import RunFolder, model_from_config
from Network.compared import fitted
from Network.dense_face import CONTROL, ROWS, SCALE, SIDE, third_row
from Network.grid import interpolation, resample
from Network.loading import Loaded
from Network.places import PLACES
from Network.ridge import ridge_solution
from Network.streaming import compiled

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 100.0)   # of each feature's mean square
CHUNK = 8                               # people at a time


class Equations(NamedTuple):
    """features (M, F) float32, the last 1; offsets (M, CONTROL * CONTROL * 3) float32 from the template, in its units:
    of M pictures."""

    features: np.ndarray
    offsets: np.ndarray


def true_grid(shards: Shards, person: int, image: int) -> np.ndarray:
    """What a picture shows of the face, hidden parts too: (SIDE * SIDE, 3) float64, x to the right and y up in
    image sides, and how far towards the viewer, in image sides at the mean distance of 256 places, about their mean."""
    identity = shards.gather("identity", np.array([person]))[0]
    expression, pose, camera = (shards.gather(name, np.array([person]), np.array([image]))[0]
                                for name in ("expression", "pose", "camera"))
    focal, x, y, distance = (float(number) for number in camera)
    model = load_face_model()
    grid = solid_matrix(model, SIDE)[:SIDE * SIDE] @ pose_vertices(model.shape(identity, expression), pose)
    seen = look_at_face(shards.size, distance, focal)._replace(centre=(x, y)).project(grid)
    middle = float(resample(seen.depth[:, None], PLACES).mean())
    return np.stack([seen.x, -seen.y, (middle - seen.depth) * focal / middle], -1) / shards.size


def equations(loaded: Loaded, shards: Shards, people: np.ndarray, progress: Callable[..., Any]) -> Equations:
    """Of all pictures of `people` (places in the shards)."""
    dense = loaded.model.get_layer("dense_face")
    frame, places, _ = dense.input
    whole = keras.Model(loaded.model.input, [loaded.model.get_layer("evidence").output, frame, places])
    run = compiled(lambda images: whole(images, training=False))
    back = np.linalg.pinv(interpolation(CONTROL, SIDE))         # the control grid whose refinement is nearest
    features, offsets = [], []
    for begin in progress(range(0, len(people), CHUNK), total=-(-len(people) // CHUNK)):
        who = people[begin:begin + CHUNK]
        pictures = shards.gather("images", who).reshape(-1, shards.size, shards.size, 3)
        pictures = np.stack([fitted(image / np.float32(255), loaded.image_size) for image in pictures])
        evidence, frames, found = (np.asarray(part) for part in run(ops.convert_to_tensor(pictures)))
        truth = np.stack([true_grid(shards, person, image) for person in who for image in range(shards.images)])
        features.append(np.pad(evidence, ((0, 0), (0, 1)), constant_values=1.0))
        off = in_head_frame(truth, frames[:, 0], found.mean(axis=1)) - np.asarray(dense.template)
        off = np.einsum("ir,prsc,js->pijc", back, off.reshape(-1, SIDE, SIDE, 3), back, optimize=True)
        offsets.append(off.reshape(len(truth), -1).astype(np.float32))
    return Equations(np.concatenate(features), np.concatenate(offsets))


def in_head_frame(seen: np.ndarray, camera: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """What is seen (B, N, 3), y up, by cameras (B, 16 + C) of `FaceFrame`, of places whose mean is `middle` (B, 2), y
    down -> the same in the head frame and in units of the template (B, N, 3)."""
    first, second = camera[:, ROWS].reshape(-1, 2, 3).astype(np.float64).transpose(1, 0, 2)
    third = np.asarray(third_row(camera[:, ROWS].astype(np.float64)))
    rotations = np.stack([first, second, third], axis=1)                                    # (B, 3, 3)
    shift = np.concatenate([middle * [1.0, -1.0], np.zeros((len(middle), 1))], axis=1)
    return (seen - shift[:, None]) / np.exp(camera[:, None, SCALE].astype(np.float64)) @ rotations


def solve_dense(loaded: Loaded, shards: Shards, out: Path, people: np.ndarray, held: np.ndarray,
                progress: Callable[..., Any]) -> dict[str, Any]:
    """Solve the layer on the pictures of `people` (places in the shards), choose the ridge on `held`, write the run
    folder `out` -> what config.json says of it: squared error of the held-out people's faces as they lie in their
    pictures, of the mean face's, before and after."""
    network = model_from_config(loaded.config, training=True)      # with all that training goes on from
    network.load_weights(loaded.source)
    loaded = loaded._replace(model=get_network(loaded.config["network"]).inference(network))
    training, validation = (equations(loaded, shards, who, progress) for who in (people, held))
    code, dense = loaded.model.get_layer("shape_code"), loaded.model.get_layer("dense_face")
    rank = dense.directions.shape[0]
    squares = training.offsets.T @ training.offsets     # the mean is a direction like any other
    directions = np.linalg.eigh(squares.astype(np.float64))[1][:, ::-1][:, :rank].T
    x = training.features.astype(np.float64)
    normal, right = x.T @ x, x.T @ (training.offsets @ directions.T)

    def error(mapped: np.ndarray, along: np.ndarray) -> float:
        off = np.square(validation.features @ mapped @ along - validation.offsets).sum()
        return float(off / np.square(validation.offsets).sum())
    tried = {ridge: ridge_solution(normal, right, ridge) for ridge in RIDGES}
    best = min(RIDGES, key=lambda ridge: error(tried[ridge], directions))
    before = error(np.vstack(code.get_weights()), np.asarray(dense.directions))
    about = {"people": len(people), "ridge": best, "of_mean_face_before": [before],
             "of_mean_face_after": [error(tried[best], directions)]}
    code.set_weights([tried[best][:-1], tried[best][-1]])
    dense.directions.assign(directions.astype(np.float32))
    folder = RunFolder(out)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_weights(network, "best_validation")
    folder.start({**{k: v for k, v in loaded.config.items() if k != "versions"}, "solved": about})
    return about
