"""How a command ends: 0, or 2 after one line on standard error."""
from __future__ import annotations

import functools
import os
import sys
import traceback
import zlib
from typing import Callable

#: what bad input and a full machine end in; anything else is a fault of the program and keeps its traceback
BAD_INPUT = (ValueError, OSError, MemoryError, RecursionError, OverflowError, zlib.error)
DEBUG = "FACES3D_DEBUG"
Main = Callable[..., int]


def one_line(name: str, resumable: bool = False) -> Callable[[Main], Main]:
    """A decorator of main(argv=None) -> exit code: bad input, a full disk and missing memory become one line
    "NAME: what" on standard error and 2, Ctrl-C 130. With FACES3D_DEBUG=1 in the environment the traceback comes
    first.

    resumable  the line of Ctrl-C says that the same command goes on
    """
    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def guarded(argv: list[str] | None = None) -> int:
            return run_command(name, lambda: main(argv), resumable)
        return guarded
    return decorate


def run_command(name: str, work: Callable[[], int | None], resumable: bool = False) -> int:
    """Run `work` -> its exit code, 0 for None, as `one_line` says."""
    try:
        return work() or 0
    except BAD_INPUT as error:
        if os.environ.get(DEBUG, "0") not in ("", "0"):
            traceback.print_exc()
        sys.stderr.write(f"{name}: {line_of(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: stopped{'; the same command goes on' if resumable else ''}\n")
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
