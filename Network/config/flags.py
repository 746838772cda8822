"""Command-line flags from frozen dataclasses: one field, one flag, the field's default, the field's type.

A setting that no dataclass has is an error (argparse without abbreviations), and so is a value of another type.
"""
from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from types import MappingProxyType
from typing import Any, Callable, Mapping, Sequence

MAX_SIZE, MAX_ITEMS, MAX_REPEATS = 2**16, 64, 64       # of a network's numbers: points, pixels, filters
#: ends of the names of numbers of blocks
REPEATS = ("blocks", "repeats", "depth", "levels", "hourglasses", "refinements", "iterations", "convolutions")
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


def check_sizes(config: Any) -> None:
    """ValueError for a network that no machine builds: a whole number above MAX_SIZE, more than MAX_ITEMS of a tuple,
    more than MAX_REPEATS repeats of a block. `config`: a network's Config."""
    for field in dataclasses.fields(config):
        if field.name.endswith("seed"):
            continue
        value = getattr(config, field.name)
        values = value if isinstance(value, tuple) else (value,)
        if len(values) > MAX_ITEMS:
            raise ValueError(f"{field.name} must have at most {MAX_ITEMS} values, got {len(values)}")
        limit = MAX_REPEATS if field.name.endswith(REPEATS) else MAX_SIZE
        largest = max((v for v in values if isinstance(v, int)), default=0)
        if largest > limit:
            raise ValueError(f"{field.name} must be at most {limit}, got {largest}")


def from_dict(config: type, values: dict[str, Any]) -> Any:
    """A dataclass from a dict as JSON gives it: lists become tuples. ValueError names an unknown setting."""
    names = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(f"unknown setting {', '.join(unknown)}; {config.__module__}.{config.__name__} has "
                         f"{', '.join(sorted(names))}")
    return config(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})


def exit_code(script: str, function: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Run a script's work: 0, or 2 after one line on standard error for bad input or a file that cannot be written."""
    try:
        function(arguments)
    except (ValueError, OSError) as error:
        argparse.ArgumentParser(script).exit(2, f"{script}: {error}\n")
    return 0
