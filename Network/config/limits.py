"""What a network may cost, counted before any memory is taken for its weights."""
from __future__ import annotations

import dataclasses
import math
from typing import Any, Callable, Iterable

import keras
from keras.src.backend.common import global_state

MAX_PARAMETERS = 2**28      # the largest of the papers' networks has 57 million
MAX_OUTPUTS = 2**28         # numbers that all layers give for one input; 32 million
_LATER = "uninitialized_variables"      # Keras's list of what a StatelessScope left without a value


def check_cost(build: Callable[[Any], keras.Model], config: Any, presets: Iterable[Any]) -> None:
    """ValueError for a network above MAX_PARAMETERS or MAX_OUTPUTS, which fields that are each within their maximum can
    make together. One with no number above those of `presets` is not counted: that takes a third of a second.

    build   config -> a model
    config  the network's Config; presets: others of its kind that are known to be small enough
    """
    if _is_within(config, presets):
        return
    parameters, outputs = cost_of(lambda: build(config))
    for count, most, what in ((parameters, MAX_PARAMETERS, "parameters"),
                              (outputs, MAX_OUTPUTS, "numbers between its layers")):
        if count > most:
            raise ValueError(f"a network may have at most {most} {what}, this one would have {count}")


def cost_of(build: Callable[[], keras.Model]) -> tuple[int, int]:
    """Parameters of a model, and numbers that its layers give for one input; an axis of unknown length counts as 1.
    The model is built without weights."""
    before = global_state.get_global_attribute(_LATER)
    global_state.set_global_attribute(_LATER, [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            model = build()
            return model.count_params(), _outputs(model)
    finally:
        global_state.set_global_attribute(_LATER, before or [])


def _outputs(model: keras.Model) -> int:
    inner = [_outputs(layer) for layer in model.layers if isinstance(layer, keras.Model)]
    given = [tensor for layer in model.layers if not isinstance(layer, keras.Model)
             for tensor in keras.tree.flatten(layer.output)]
    return sum(inner) + sum(math.prod(side or 1 for side in tensor.shape) for tensor in given)


def _is_within(config: Any, presets: Iterable[Any]) -> bool:
    """Whether each number of a config, and the length of each of its tuples, is at most the largest of the presets'."""
    known = list(presets)

    def largest(value: Any) -> tuple[float, int]:
        items = value if isinstance(value, tuple) else (value,)
        return max((item for item in items if isinstance(item, (int, float))), default=0), len(items)
    for field in dataclasses.fields(config):
        number, length = largest(getattr(config, field.name))
        limits = [largest(getattr(preset, field.name)) for preset in known]
        if not limits or number > max(n for n, _ in limits) or length > max(count for _, count in limits):
            return False
    return True
