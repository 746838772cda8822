"""Files of others are regular files: a named pipe waits for ever, a device has no end."""
from __future__ import annotations

import os
import stat
from pathlib import Path


def check_regular(path: str | os.PathLike[str]) -> None:
    """ValueError, one line that names it, for what is there and no regular file, and for a loop of links; a missing
    file passes: its reader says so."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"{Path(path)}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(mode):
        raise ValueError(f"{Path(path)}: must be a file, is {_kind(mode)}")


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a named pipe" if stat.S_ISFIFO(mode) else "a device or socket"
