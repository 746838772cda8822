"""A Keras model as a compiled function."""
from __future__ import annotations

from typing import Callable

import keras


def compiled(step: Callable) -> Callable:
    """A graph under TensorFlow, whose eager calls cost more than a small network's arithmetic; `step` itself under
    another backend. It is traced with the first call."""
    if keras.backend.backend() != "tensorflow":
        return step
    import tensorflow as tf
    return tf.function(step)
