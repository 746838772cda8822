"""How a command ends: 0, or 2 after one line on standard error."""
from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import traceback
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterable, Iterator

#: what bad input and a full machine end in; anything else is a fault of the program and keeps its traceback
BAD_INPUT = (ValueError, OSError, MemoryError, RecursionError, OverflowError, EOFError, zlib.error, zipfile.BadZipFile)
#: the same of libraries whose classes are not imported here: end of the module's name, name of the class
FOREIGN = {("cv2", "error"), ("errors_impl", "ResourceExhaustedError")}
DEBUG, FLAG = "FACES3D_DEBUG", "--debug"
HELP = f"  {FLAG:<21} print the traceback before an error's line, and what the libraries print\n"
Main = Callable[..., int | None]


def one_line(name: str, resumable: bool = False) -> Callable[[Main], Callable[..., int]]:
    """A decorator of main(argv=None) -> exit code, None for 0: bad input, a full disk, missing memory become one line
    "NAME: what" on standard error and 2, Ctrl-C 130. The flag --debug, which main does not get to see, or
    FACES3D_DEBUG=1 in the environment, prints the traceback first; without it what native libraries print (warnings of
    OpenCV, libpng, FFmpeg, TensorFlow; NumPy's RuntimeWarnings) is dropped, and so is argparse's list of flags.

    resumable  the line of Ctrl-C says that the same command goes on
    """
    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def guarded(argv: list[str] | None = None) -> int:
            words = list(sys.argv[1:] if argv is None else argv)
            last = words.index("--") if "--" in words else len(words)
            debug = FLAG in words[:last]
            words = [word for i, word in enumerate(words) if word != FLAG or i > last]
            try:
                return run_command(name, lambda: main(words), resumable, debug)
            except SystemExit as end:
                if not end.code and {"-h", "--help"} & set(words):
                    sys.stdout.write(HELP)
                raise
        return guarded
    return decorate


def run_command(name: str, work: Callable[[], int | None], resumable: bool = False, debug: bool = False) -> int:
    """Run `work` -> its exit code, 0 for None, as `one_line` says."""
    debug = debug or os.environ.get(DEBUG, "0") not in ("", "0")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):      # a stream that is none of Python's, or cannot seek
            stream.reconfigure(errors="backslashreplace")       # a file's name need not be text
    try:
        with _without_usage(), _as_it_is() if debug else _quiet_libraries():
            code = work() or 0
            sys.stdout.flush()      # a full disk behind it is an error of this command
            return code
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: stopped{'; the same command goes on' if resumable else ''}\n")
        return 130
    except Exception as error:
        if not _is_bad_input(error):
            raise
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"{name}: {line_of(error)}\n")
        return 2


def _is_bad_input(error: Exception) -> bool:
    kind = type(error)
    return isinstance(error, BAD_INPUT) or (kind.__module__.rpartition(".")[2], kind.__name__) in FOREIGN


def line_of(error: BaseException) -> str:
    """An error in one line; of one without words what its kind means."""
    words = " ".join(str(error).split())
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return f"not enough memory{f' ({words})' if words else ''}"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (zlib.error, zipfile.BadZipFile)):
        return f"compressed data are damaged ({words})"
    return words or type(error).__name__


def wrote(files: Iterable[Path]) -> str:
    """What a command says of the files that it has written: a line each, with a line end; "" for none."""
    return "".join(f"wrote {file.absolute()}\n" for file in files)


@contextmanager
def _without_usage() -> Iterator[None]:
    """A wrong flag is one line, not the list of all flags before it; --help shows that."""
    shown = argparse.ArgumentParser.print_usage

    def print_usage(parser: argparse.ArgumentParser, file: object = None) -> None:
        if file is not sys.stderr:
            shown(parser, file)
    argparse.ArgumentParser.print_usage = print_usage       # type: ignore[method-assign]
    try:
        yield
    finally:
        argparse.ArgumentParser.print_usage = shown         # type: ignore[method-assign]


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Drop what is written to file descriptor 2 past Python's standard error, which goes where it went."""
    try:
        to_python = sys.stderr.fileno() == 2
        before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (OSError, ValueError, AttributeError):       # a standard error that is no file, or none at all
        yield
        return
    stream = sys.stderr
    warned = warnings.catch_warnings()
    warned.__enter__()
    warnings.simplefilter("ignore", RuntimeWarning)         # NumPy's, of numbers in a file that are none
    try:
        stream.flush()
        if to_python:       # stays open: handlers of logging may keep it
            sys.stderr = open(os.dup(before), "w", encoding=stream.encoding, errors=stream.errors, buffering=1)
        os.dup2(nowhere, 2)
        yield
    finally:
        warned.__exit__(None, None, None)
        os.dup2(before, 2)
        if to_python:
            sys.stderr.flush()
            sys.stderr = stream
        os.close(before)
        os.close(nowhere)
