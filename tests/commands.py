"""A script's command line in this process: what it prints and its return code, without the start of a process."""
from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import Callable, NamedTuple


class Done(NamedTuple):
    """As subprocess.CompletedProcess; stderr holds the log, too."""

    returncode: int
    stdout: str
    stderr: str


def command(main: Callable[[list[str]], int | None], *words: object) -> Done:
    """main([word, ...]) with its streams; usage errors name MODULE.py. Logged messages of level INFO and above are
    written to stderr, as by the scripts' own logging.basicConfig, which has no effect under pytest."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    root, handler = logging.getLogger(), logging.StreamHandler(err)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    sys.argv = [f"{main.__module__}.py"]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = argv
        root.removeHandler(handler)
        root.setLevel(level)
    return Done(int(code or 0), out.getvalue(), err.getvalue())
