"""Command-line flags for the fields of an options dataclass."""
from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


def add_fields(parser: argparse.ArgumentParser, options: type, helps: Mapping[str, str],
               choices: Mapping[str, Sequence[str]] | None = None) -> None:
    """Add a flag `--name` (underscores as hyphens) for each field of a dataclass that `helps` describes, with the
    field's type and default; choices: the allowed words of some fields."""
    for field in dataclasses.fields(options):
        if field.name in helps:
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default,
                                choices=(choices or {}).get(field.name),
                                help=f"{helps[field.name]} (default %(default)s)")


def fields_of(options: type, arguments: argparse.Namespace) -> dict[str, Any]:
    """The parsed values of the fields of a dataclass that are flags."""
    return {field.name: getattr(arguments, field.name) for field in dataclasses.fields(options)
            if hasattr(arguments, field.name)}
