"""A network as one function, whichever engine runs it: onnxruntime without Keras, or Keras."""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from Network.engine.exported import Exported
from Network.engine.loaded import Loaded

#: inputs (B, ...) float32 -> the network's output, an array (B, ...) float32, or several by name
Run = Callable[[np.ndarray], Any]


def run_of(loaded: Loaded, one_by_one: bool = False) -> Run:
    """A network without recurrent states as a function, ready when it returns: nothing is left to trace.

    It takes single images (B, S, S, C), also where the Keras model takes (B, T, S, S, C).
    one_by_one  by Keras: for images that come one by one on one thread (`Network.engine.lite`)
    """
    if loaded.exported is not None:
        return _of_exported(loaded.exported)
    if one_by_one:
        from Network.engine.lite import one_by_one as fast
        return fast(loaded.model)
    return _of_keras(loaded.model, loaded.image_size)


def _of_exported(exported: Exported) -> Run:
    names = [name for name, _ in exported.metadata.outputs]

    def run(inputs: np.ndarray) -> Any:
        found = [exported.step(one[None])[0] for one in np.asarray(inputs, np.float32)]
        outputs = {name: np.concatenate([each[name] for each in found]) for name in names}
        return outputs if len(names) > 1 else outputs[names[0]]
    return run


def _of_keras(model: Any, side: int) -> Run:
    from keras import ops

    from Network.engine.graph import compiled
    shape = getattr(model, "input_shape", (None, side, side, 3))
    over_time, step = len(shape) == 5, compiled(lambda inputs: model(inputs, training=False))

    def run(inputs: np.ndarray) -> Any:
        found = step(ops.convert_to_tensor(inputs[:, None] if over_time else inputs))
        if isinstance(found, dict):
            return {name: np.asarray(values[:, 0] if over_time else values, np.float32)
                    for name, values in found.items()}
        return np.asarray(found, np.float32)
    run(np.zeros((1, side, side, shape[-1]), np.float32))
    return run
