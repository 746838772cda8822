"""A network by TFLite's kernels (XNNPACK), in the process that loaded it: for images that come one by one, as in
a video. TensorFlow's graph takes twice the processor time for them
(docs/archive/2026-11.md), but starts at once."""
from __future__ import annotations

import logging
import re
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import numpy as np

log = logging.getLogger(__name__)
#: (1, ...) float32 -> the network's output
Run = Callable[[np.ndarray], np.ndarray]


def one_by_one(model: Any) -> Run:
    """A Keras model of one input and one output as a function of one sample (1, ...) float32, on one thread, where
    TFLite can have it; else as `compiled` runs it. Ready when it returns: nothing is left to trace. The weights are
    those of now."""
    import keras
    from keras import ops

    from Network.engine.graph import compiled
    if keras.backend.backend() == "tensorflow":
        try:
            with missing_operations():
                return runner(converter_of(model).convert())
        except ValueError as error:
            log.info("%s", error)
    run = compiled(lambda inputs: model(inputs, training=False))
    run(np.zeros((1, *model.input_shape[1:]), np.float32))
    return lambda x: np.asarray(run(ops.convert_to_tensor(x)))


def converter_of(model: Any) -> Any:
    """TFLite's converter of a model's inference, batch 1."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    shape = (1, *model.input_shape[1:])
    function = tf.function(lambda inputs: model(inputs, training=False),
                           input_signature=[tf.TensorSpec(shape, tf.float32, "images")])
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen])


@contextmanager
def missing_operations() -> Iterator[None]:
    """A converter's failure for want of an operation as a ValueError that names it."""
    try:
        yield
    except Exception as error:      # its class differs between versions of TensorFlow
        missing = sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error))))
        if not missing:
            raise
        raise ValueError(f"TFLite has no operation for {', '.join(missing)}, which this network uses") from None


def runner(content: bytes) -> Run:
    """(1, ...) float32 -> the output by TFLite's interpreter, one thread. It trusts the bytes: give it none but those
    that a converter of this process made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)        # TensorFlow 2.20 announces that its interpreter will go
        interpreter = interpreter_class()(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    takes, gives = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(takes, np.asarray(x, np.float32))
        interpreter.invoke()
        return interpreter.get_tensor(gives)
    return run


def interpreter_class() -> Callable[..., Any]:
    """TFLite's interpreter: the small package's, which a machine without TensorFlow can have, or TensorFlow's."""
    try:
        from ai_edge_litert.interpreter import Interpreter
        return Interpreter
    except ImportError as error:
        try:
            import tensorflow as tf
            return tf.lite.Interpreter
        except (ImportError, AttributeError):
            raise error from None
