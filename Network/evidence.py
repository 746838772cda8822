"""What the places that a network finds tell of the person, beside what it answers: for Network/calibration.py.

A map of the face shows what is seen. Of the 256 places behind `uvnet-compact`'s map some are hidden, and known the
less; how they lie off the mean face, and how sure that is, tells more of who it is than a fit to the map does
(docs/results.md). Several photos are triangulated: each tells of a place what lies across its line of sight.
"""
from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

OFFSETS, SURE = slice(2, 5), slice(8, 9)    # of what FaceFrame gives: in the head frame as they are, 0 to 1
ROWS, SCALE = slice(9, 15), slice(15, 16)   # its camera: two rows of the rotation, ln of the scale
CAMERA = 7
BELIEVED = 0.3      # chosen by held-out synthetic people (docs/results.md): stands for the offsets' variance, for the
#                     unit of the network's, and for errors that a photo's places have in common


def with_evidence(model: keras.Model) -> keras.Model | None:
    """A network of one output that finds places -> one that gives that output and its places' evidence (n, 4 K + 7)
    float32: how each of K places lies off the template, in the head frame (3 K), how sure it is, 0 to 1 (K), and the
    camera's rows (6) and ln of its scale. None for a network of another kind."""
    names = {layer.name for layer in getattr(model, "layers", ())}
    if not {"again_0", "face_frame"} <= names or isinstance(model.output, (dict, list)):
        return None
    frame: Any = model.get_layer("face_frame")(*model.get_layer("again_0").output)
    parts = [ops.reshape(frame[..., part], (-1, frame.shape[1] * (part.stop - part.start))) for part in (OFFSETS, SURE)]
    return keras.Model(model.input, [model.output,
                                     ops.concatenate([*parts, frame[:, 0, ROWS], frame[:, 0, SCALE]], axis=-1)])


def triangulated(evidence: np.ndarray) -> np.ndarray:
    """The evidence of a person's photos (T, 4 K + 7) -> (3 K + 7,) float64: where the places lie off the template, and
    the photos' mean camera.

    A place's offset is the mean of its normal posterior: before any photo it is 0 with variance 1, and each photo sees
    it across its line of sight with a precision of BELIEVED * sure / (1 - sure), as e^-log_variance is. In one unit
    with the offset (the crop's scale squared) it served held-out people no better. ValueError for another shape.
    """
    evidence = np.asarray(evidence, np.float64)
    if evidence.ndim != 2 or not len(evidence) or evidence.shape[1] < CAMERA or (evidence.shape[1] - CAMERA) % 4:
        raise ValueError(f"want the evidence (T, 4 K + {CAMERA}) of at least one photo, received {evidence.shape}")
    places = (evidence.shape[1] - CAMERA) // 4
    offsets, sure, camera = np.split(evidence, [3 * places, 4 * places], axis=1)
    offsets = offsets.reshape(len(evidence), places, 3)
    rows = camera[:, :6].reshape(-1, 2, 3)
    precision = BELIEVED * sure / np.maximum(1 - sure, 1e-6)
    across = np.einsum("tai,taj->tij", rows, rows)          # (T, 3, 3): onto the picture's plane, in the head frame
    known = np.eye(3) + np.einsum("tk,tij->kij", precision, across)
    seen = np.einsum("tk,tki->ki", precision, offsets)
    return np.concatenate([np.linalg.solve(known, seen[..., None]).ravel(), camera.mean(axis=0)])
