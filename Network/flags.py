"""Command-line flags from frozen dataclasses: one field, one flag, the field's default, the field's type.

A setting that no dataclass has is an error (argparse without abbreviations), and so is a value of another type.
"""
from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from typing import Any, Callable, Sequence

#: stands for "not given", so that a preset's value and a value typed by hand are told apart
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


def add_flags(parser: argparse.ArgumentParser, config: type, title: str, skip: Sequence[str] = ()) -> None:
    """Add `--field-name VALUE` for every field of a dataclass; booleans get `--field` and `--no-field`."""
    group = parser.add_argument_group(title)
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        if field.name in skip:
            continue
        name = "--" + field.name.replace("_", "-")
        text = f"default {field.default!r}".replace("%", "%%") if field.default is not dataclasses.MISSING else None
        if hints[field.name] is bool:
            group.add_argument(name, action=argparse.BooleanOptionalAction, default=NOT_GIVEN, help=text)
        else:
            group.add_argument(name, type=_parser_of(hints[field.name]), default=NOT_GIVEN, help=text,
                               metavar=field.name.upper())


def given(arguments: argparse.Namespace, config: type) -> dict[str, Any]:
    """The fields of a dataclass that were typed on the command line."""
    names = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in vars(arguments).items() if name in names}


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
