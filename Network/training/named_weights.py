"""Weights by name: every variable of a model and of its optimizer under a name that contains its layer.

A name is the path of the layer and of the variable in it: "down_0/kernel", in a model within a model
"generator/down_0/kernel". An optimizer's slot is named after the variable that it belongs to: "down_0/kernel/momentum".
Files hold arrays by these names, so the order of layers may change, and a change of a name is seen.
"""
from __future__ import annotations

import hashlib
from typing import Any, Iterable, Mapping

import keras
import numpy as np

from Network.training.optimizers import TwoOptimizers

_SHOWN = 4      # names in a message


def named_variables(model: keras.Model, before: str = "") -> dict[str, keras.Variable]:
    """Name -> variable, of all variables of a model, seeds of random layers too, in the order of its layers.

    ValueError where two variables would have one name, or the model has variables outside its layers.
    """
    found: dict[str, keras.Variable] = {}
    for layer in model.layers:
        path = f"{before}{layer.name}/"
        inner = named_variables(layer, path) if isinstance(layer, keras.Model) else {
            path + _within(layer.name, variable): variable for variable in layer.variables}
        twice = found.keys() & inner.keys()
        if twice or len(inner) != len(layer.variables):
            raise ValueError(f"every weight needs a name of its own; two are named {min(twice or inner)!r}")
        found |= inner
    if len(found) != len(model.variables):
        raise ValueError(f"model {model.name} has {len(model.variables)} variables, its layers {len(found)}")
    return found


def named_weights(model: keras.Model) -> dict[str, keras.Variable]:
    """`named_variables` without the seeds of random layers: what `model.get_weights` gives, by name."""
    kept = {id(weight) for weight in model.weights}
    return {name: variable for name, variable in named_variables(model).items() if id(variable) in kept}


def weights_hash(model: keras.Model) -> str:
    """SHA-256 (hex) of all weights of a model, float32, in the order of their names."""
    digest = hashlib.sha256()
    for name, weight in sorted(named_weights(model).items()):
        digest.update(name.encode() + np.asarray(weight, np.float32).tobytes())
    return digest.hexdigest()


def named_slots(model: keras.Model, optimizer: Any) -> dict[str, keras.Variable]:
    """Name -> variable of a built optimizer of the model's trainable variables: "iteration", "down_0/kernel/momentum".

    Those of `TwoOptimizers` have the name of their part in front: "generator/iteration".
    """
    names = {id(variable): name for name, variable in named_variables(model).items()}
    if not isinstance(optimizer, TwoOptimizers):
        return _slots(optimizer, model.trainable_variables, names)
    found: dict[str, keras.Variable] = {}
    for part, one in optimizer.parts.items():
        slots = _slots(one, model.get_layer(part).trainable_variables, names)
        found |= {name if name.startswith(f"{part}/") else f"{part}/{name}": slot for name, slot in slots.items()}
    return found


def fill(variables: Mapping[str, keras.Variable], arrays: Mapping[str, np.ndarray], source: str,
         more: bool = False) -> None:
    """Assign arrays to the variables of the same names.

    more  `arrays` may hold names that `variables` lacks
    ValueError, before anything is assigned, that begins with `source` and lists what is missing, too many, of another
    shape or not finite.
    """
    known = arrays.keys() & variables.keys()
    faults = _listed("lacks", variables.keys() - known)
    if not more:
        faults += _listed("holds unknown", arrays.keys() - known)
    shapes = {name: (tuple(np.shape(arrays[name])), tuple(variables[name].shape)) for name in sorted(known)}
    faults += _listed("has another shape:", (f"{name} is {found}, must be {wanted}"
                                             for name, (found, wanted) in shapes.items() if found != wanted))
    faults += _listed("is not finite:", (name for name in known if not np.isfinite(arrays[name]).all()))
    if faults:
        raise ValueError(f"{source}: does not fit this network: {'; '.join(faults)}")
    for name in known:
        variables[name].assign(np.asarray(arrays[name], variables[name].dtype))


def fill_model(model: keras.Model, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """`fill` all weights of a model from arrays of the same network or of a larger one: one with more layers, or one
    in which the model is a part of its name ("generator/down_0/kernel" for "down_0/kernel" of the model "generator").
    """
    part = f"{model.name}/"
    inside = {name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)}
    fill(named_weights(model), inside or arrays, source, more=True)


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give `target` the weights of `source` as `fill_model` does. ValueError for one that it lacks."""
    arrays = {name: np.asarray(variable) for name, variable in named_weights(source).items()}
    fill_model(target, arrays, f"model {source.name}")


def _listed(fault: str, names: Iterable[str]) -> list[str]:
    """["lacks a, b and 3 more"], or [] for no names."""
    first, rest = (ordered := sorted(names))[:_SHOWN], len(ordered) - _SHOWN
    return [f"{fault} {', '.join(first)}" + (f" and {rest} more" if rest > 0 else "")] if first else []


def _within(layer: str, variable: keras.Variable) -> str:
    """A variable's path within its layer; of a seed, whose path is numbered by Keras, its name."""
    head, _, rest = variable.path.partition(f"{layer}/")
    return rest if rest and not head else variable.name


def _slots(optimizer: Any, trained: list[keras.Variable], names: Mapping[int, str]) -> dict[str, keras.Variable]:
    """Of one optimizer. Keras names a slot after its variable: path with "_" for "/", "_", name of the slot."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):         # float16
        inner = optimizer.inner_optimizer
        found = _slots(inner, trained, names)
        inside = {id(slot) for slot in found.values()}
        return found | {f"loss_scale/{slot.name}": slot for slot in optimizer.variables if id(slot) not in inside}
    owners = {variable.path.replace("/", "_") + "_": names[id(variable)] for variable in trained}
    found = {}
    for slot in optimizer.variables:
        prefix = max((prefix for prefix in owners if slot.name.startswith(prefix)), key=len, default="")
        found[f"{owners[prefix]}/{slot.name.removeprefix(prefix)}" if prefix else slot.name] = slot
    if len(found) != len(optimizer.variables):
        raise ValueError(f"every slot needs a name of its own; {len(optimizer.variables)} have {len(found)}")
    return found
