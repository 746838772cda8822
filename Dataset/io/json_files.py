"""JSON files of others: bounded in size and depth, and one line when they are none."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from Dataset.io.archives.regular import check_regular

MAX_BYTES, MAX_DEPTH = 16 << 20, 64


def read_json(path: str | os.PathLike[str], kind: type = dict, max_bytes: int = MAX_BYTES) -> Any:
    """A JSON file's value. ValueError, one line that names the file: missing, too large, no JSON, nested deeper than
    MAX_DEPTH, or not of the wanted `kind` (dict or list)."""
    path = Path(path)
    check_regular(path)
    try:
        if path.stat().st_size > max_bytes:
            raise ValueError(f"{path}: a JSON file may have at most {max_bytes} bytes, this has {path.stat().st_size}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise ValueError(f"{path}: cannot be read ({reason})") from None
    return parse_json(text, str(path), kind)


def parse_json(text: str, name: str, kind: type = dict) -> Any:
    """`read_json` of a text; `name` is what error messages call it."""
    if depth_of(text) > MAX_DEPTH:
        raise ValueError(f"{name}: JSON may be nested {MAX_DEPTH} deep at most")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name}: is no JSON ({error})") from None
    if not isinstance(value, kind):
        raise ValueError(f"{name}: must hold a JSON {'object' if kind is dict else 'array'}, "
                         f"received {type(value).__name__}")
    return value


def depth_of(text: str) -> int:
    """How deep brackets and braces are nested, those within strings left out. One pass."""
    depth = deepest = 0
    quoted = escaped = False
    for letter in text:
        if quoted:
            escaped, quoted = letter == "\\" and not escaped, letter != '"' or escaped
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in "]}":
            depth -= 1
    return deepest
