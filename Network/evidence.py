"""What the places that a network finds tell of the person, beside what it answers: for Network/calibration.py.

A map of the face shows what is seen. Of the 256 places behind `uvnet-compact`'s map some are hidden, and known the
less; how they lie off the mean face, once as it is and once by how sure they are, tells more of who it is than a fit to
the map does (docs/results.md).
"""
from __future__ import annotations

from typing import Any

import keras
from keras import ops

from Network.dense_face import ROWS, SCALE

OFFSETS = slice(2, 8)       # of what FaceFrame gives: in the head frame, as they are and by how sure they are


def with_evidence(model: keras.Model) -> keras.Model | None:
    """A network of one output that finds places -> one that gives that output and its places' evidence (n, 6 K + 7)
    float32: how each of K places lies off the template, in the head frame, as it is and by how sure it is, and the
    camera. None for a network of another kind."""
    names = {layer.name for layer in getattr(model, "layers", ())}
    if not {"again_0", "face_frame"} <= names or isinstance(model.output, (dict, list)):
        return None
    frame: Any = model.get_layer("face_frame")(*model.get_layer("again_0").output)
    offsets = ops.reshape(frame[..., OFFSETS], (-1, 6 * frame.shape[1]))
    return keras.Model(model.input, [model.output,
                                     ops.concatenate([offsets, frame[:, 0, ROWS], frame[:, 0, SCALE]], axis=-1)])
