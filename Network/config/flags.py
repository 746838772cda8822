"""Command-line flags from frozen dataclasses: one field, one flag, the field's default, the field's type.

A setting that no dataclass has is an error (argparse without abbreviations), and so is a value of another type.
"""
from __future__ import annotations

import argparse
import dataclasses
import os
import types
import typing
from types import MappingProxyType
from typing import Any, Mapping, Sequence

MAX_SIZE, MAX_ITEMS, MAX_REPEATS = 2**16, 64, 64       # of whole numbers: points, pixels, filters, images, epochs
#: ends of the names of numbers of blocks
REPEATS = ("blocks", "repeats", "depth", "levels", "hourglasses", "refinements", "iterations", "convolutions")
#: of fields that may be larger, or must be smaller
MAXIMA = {"image_size": 4096, "size": 4096, "epochs": 10**6, "patience": 10**6, "batches": 10**6,
          "fade_epochs": 10**6, "validation_subjects": 10**6, "points": 2**20, "max_steps": 10**12,
          "cache_limit": 2**63 - 1}
MAX_SEED = 2**63 - 1
#: stands for "not given", so that a value on the command line is distinguished from the preset's
NOT_GIVEN = argparse.SUPPRESS


def _parser_of(hint: Any) -> Any:
    """A function str -> value for a field's type: int, float, str, tuple of these, or `X | None` ("none")."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = _parser_of(next(a for a in arguments if a is not type(None)))

        def optional(text: str) -> Any:
            return None if text.lower() == "none" else inner(text)
        return optional
    if origin is tuple:
        inner = _parser_of(arguments[0])

        def several(text: str) -> tuple:
            return tuple(inner(part) for part in text.split(",") if part)
        return several
    return hint


def add_flags(parser: argparse.ArgumentParser, config: type, title: str, only: Sequence[str] | None = None,
              values: Mapping[str, Any] = MappingProxyType({}), notes: Mapping[str, str] = MappingProxyType({})
              ) -> None:
    """Add `--field-name VALUE` for every field of a dataclass; booleans get `--field` and `--no-field`.

    only    of these fields, in this order; None: of all
    values  field -> the value that --help shows; the field's default where there is none
    notes   field -> its help text
    """
    group = parser.add_argument_group(title)
    hints, fields = typing.get_type_hints(config), {field.name: field for field in dataclasses.fields(config)}
    for name in fields if only is None else only:
        value = values.get(name, fields[name].default)
        shown = "" if value is dataclasses.MISSING else f"[{_written(value)}]"
        text = " ".join(part for part in (notes.get(name, ""), shown) if part).replace("%", "%%")
        flag = "--" + name.replace("_", "-")
        if hints[name] is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=NOT_GIVEN, help=text)
        else:
            group.add_argument(flag, type=_parser_of(hints[name]), default=NOT_GIVEN, help=text, metavar=name.upper())


def _written(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return repr(value) if value == "" else str(value).lower() if value is None else str(value)


def given(arguments: argparse.Namespace, config: type) -> dict[str, Any]:
    """The fields of a dataclass that were typed on the command line."""
    names = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in vars(arguments).items() if name in names}


def check_sizes(values: Mapping[str, Any]) -> None:
    """ValueError for numbers that no machine has room for, before anything is made of them: a whole number above
    MAX_SIZE, more than MAX_ITEMS of a tuple, more than MAX_REPEATS repeats of a block. `values`: field -> value."""
    for name, value in values.items():
        items = value if isinstance(value, tuple) else (value,)
        if len(items) > MAX_ITEMS:
            raise ValueError(f"{name} must have at most {MAX_ITEMS} values, got {len(items)}")
        limit = MAX_SEED if name.endswith("seed") else MAXIMA.get(
            name, MAX_REPEATS if name.endswith(REPEATS) else MAX_SIZE)
        largest = max((item for item in items if isinstance(item, int)), key=abs, default=0)
        if abs(largest) > limit:
            rule = f"at most {limit}" if largest > 0 else f"at least {-limit}"
            raise ValueError(f"{name} must be {rule}, got {_shortened(largest)}")


def check_types(config: type, values: Mapping[str, Any]) -> None:
    """ValueError for a value that is not of its field's type, and for NaN and infinity. A whole number is a float."""
    hints = typing.get_type_hints(config)
    for name, value in values.items():
        if not _is_of(value, hints[name]):
            raise ValueError(f"{name} must be {_named(hints[name])}, got {_shortened(value)}")


def _is_of(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_is_of(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _named(hint: Any) -> str:
    """A field's type in words."""
    arguments = [a for a in typing.get_args(hint) if a is not Ellipsis]
    if typing.get_origin(hint) is tuple:
        return f"a list, each {_named(arguments[0])}"
    if arguments:
        return " or ".join(dict.fromkeys(_named(a) for a in arguments))
    return {int: "a whole number", float: "a finite number", str: "text", bool: "true or false",
            type(None): "null"}.get(hint, getattr(hint, "__name__", str(hint)))


def _shortened(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 200:     # Python refuses to write more than 4300 digits
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]}..."


def from_dict(config: type, values: dict[str, Any]) -> Any:
    """A dataclass from a dict as JSON gives it: lists become tuples. ValueError names an unknown setting, a value of
    another type (`check_types`) and one that is too large (`check_sizes`)."""
    names = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(f"unknown setting {', '.join(unknown)}; {config.__module__}.{config.__name__} has "
                         f"{', '.join(sorted(names))}")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    check_types(config, values)
    check_sizes(values)
    return config(**values)


def silence_tensorflow() -> None:
    """Keep TensorFlow's C++ log off, unless the environment says otherwise; before it is imported. Without a GPU it
    reports "failed call to cuInit" as an error, and nothing is wrong."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
