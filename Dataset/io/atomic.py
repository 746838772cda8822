"""Atomic writes and folder locks: a reader sees the old file or the new one, never half of one.

`os.replace` within one folder is atomic on POSIX and on Windows; the fsync before it keeps a power cut from
leaving a file under its new name without its bytes.
"""
from __future__ import annotations

import errno
import glob
import logging
import os
import uuid
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Callable, Iterator

try:
    import fcntl
except ImportError:         # Windows
    fcntl = None

log = logging.getLogger(__name__)
TEMPORARY = ".tmp-"     # names that begin with this are leftovers of a killed writer: readers skip them
#: (temporary, path) of the files of the surrounding `all_or_none`, in the order of their renames
_waiting: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("waiting", default=None)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, with the same ending; rename it on success.

    The folder is created when it is missing. When the body raises (Ctrl-C included) the temporary file is
    removed and `path` is left as it was. When the body writes nothing, OSError: several writers (OpenCV,
    Open3D) report failure by a return value only. An OSError of the temporary file names `path`. ValueError, at
    once, where `path` is there and is neither a file nor a folder: a pipe or a device is not replaced.
    """
    path = Path(path)
    refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{uuid.uuid4().hex[:12]}-{path.name}"
    try:
        yield temporary
        if not temporary.is_file():
            raise OSError(f"{path}: nothing was written")
        _flush(temporary)
        waiting = _waiting.get()
        if waiting is not None:
            waiting.append((temporary, path))
            return
        os.replace(temporary, path)
    except BaseException as error:
        _take_back(error, temporary, path)
        raise
    _flush(path.parent)


def refuse_special(path: Path) -> None:
    """ValueError where `path` is, or leads to, a pipe, a device or a socket; nothing for a file, a folder, or nothing
    at all."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path}: is there, and is no regular file, but a pipe, a device or the like: it is not "
                         "replaced")


def _take_back(error: BaseException, temporary: Path, path: Path) -> None:
    """Remove a temporary file after an error; an OSError of it names the file that it was to become."""
    with suppress(OSError):         # the error that came first is the one to tell
        temporary.unlink(missing_ok=True)
    if isinstance(error, OSError) and str(error.filename) == str(temporary):
        error.filename = str(path)


@contextmanager
def all_or_none(finish: Callable[[Path, Path], None] | None = None) -> Iterator[None]:
    """The files that this thread writes by `atomic_path` in the body appear together when it ends, in the order in
    which they were written; none of them appears when it raises. They cannot be read back before.

    finish  called with each temporary file, whole, and its path, before the first rename
    Within another `all_or_none` the outer one decides. A process killed between two renames leaves whole files, of
    which the last may still be the old ones. OSError, before any rename, where a folder has the name of a file.
    """
    if _waiting.get() is not None:
        yield
        return
    waiting: list[tuple[Path, Path]] = []
    token = _waiting.set(waiting)
    try:
        yield
        for _, path in waiting:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        for temporary, path in waiting if finish else ():
            finish(temporary, path)
            _flush(temporary)
        for temporary, path in waiting:
            os.replace(temporary, path)
    except BaseException as error:
        for temporary, path in waiting:
            _take_back(error, temporary, path)
        raise
    finally:
        _waiting.reset(token)
    for folder in {path.parent for _, path in waiting}:
        _flush(folder)


def write_atomic(path: str | os.PathLike[str], write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)` inside `atomic_path(path)`."""
    with atomic_path(path) as temporary:
        write(temporary)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 with \\n line ends on every system, atomically."""
    write_atomic(path, lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def remove_leftovers(folder: str | os.PathLike[str]) -> int:
    """Delete temporary files that a killed writer left in `folder` (not below it); return how many.

    Call it only where no other writer is at work.
    """
    leftovers = [p for p in Path(folder).glob(f"{TEMPORARY}*") if p.is_file()]
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)


def remove_leftovers_of(path: str | os.PathLike[str]) -> None:
    """Delete temporary files of `path` alone, of writers that are dead: for a folder in which others may be at work.

    Call it before this process writes `path`. A number that another process has got meanwhile counts as alive. Windows:
    nothing is deleted.
    """
    path = Path(path)
    for leftover in path.parent.glob(f"{TEMPORARY}*-{glob.escape(path.name)}"):
        writer = leftover.name.removeprefix(TEMPORARY).split("-")[0]
        if os.name != "nt" and not (writer.isdigit() and writer != str(os.getpid()) and _alive(int(writer))):
            leftover.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextmanager
def folder_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Lock `folder` against other users of `folder_lock` while the body runs; the folder is created if it is missing.

    ValueError, at once, if another process (or another caller in this one) holds the lock, or if the path is no folder.
    The lock is on the folder itself (flock), so it leaves no file behind, and the system takes it back from a process
    that ends in any way, SIGKILL included. Where the file system or the system (Windows) has no such lock, the body
    runs without it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: exists and is not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)       # not inherited: a worker that outlives us does not hold it
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another process is writing here; wait until it ends, or name another folder"
                             ) from None
        except OSError as error:                # some network file systems have none
            log.warning("%s: cannot be locked (%s); start no second writer on it", folder, error.strerror)
        yield
    finally:
        os.close(handle)


def _flush(path: Path) -> None:
    """Push a file (or, where the system allows it, a folder) to the disk."""
    if path.is_dir() and os.name == "nt":       # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError:         # some network file systems refuse it; the rename is atomic all the same
        pass
    finally:
        os.close(handle)
