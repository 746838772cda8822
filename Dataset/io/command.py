"""How a command ends: 0, or 2 after one line on standard error."""
from __future__ import annotations

import os
import sys
import zlib
from typing import Callable

#: what bad input and a machine that is full end in; anything else is a fault of the program and keeps its traceback
BAD_INPUT = (ValueError, OSError, MemoryError, RecursionError, OverflowError, zlib.error)
DEBUG = "FACES3D_DEBUG"


def run_command(name: str, work: Callable[[], int | None]) -> int:
    """Run `work` -> its exit code, 0 for None. Bad input, a full disk, memory that is not there: one line
    "NAME: what" on standard error and 2; with FACES3D_DEBUG=1 in the environment the traceback comes first.
    KeyboardInterrupt: 130."""
    try:
        return work() or 0
    except BAD_INPUT as error:
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            import traceback
            traceback.print_exc()
        print(f"{name}: {line_of(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: stopped", file=sys.stderr)
        return 130


def line_of(error: BaseException) -> str:
    """An error in one line; of one without words what its kind means."""
    words = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory{f' ({words})' if words else ''}"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, zlib.error):
        return f"compressed data are damaged ({words})"
    return words or type(error).__name__
