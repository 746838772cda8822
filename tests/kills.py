"""Kill a process or one of its workers at a chosen or random moment, and start it again: for tests and
tests/bench/kills.py. Linux alone: children are found in /proc."""
from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Callable, NamedTuple

from tests.forkserver import DEVNULL, PIPE, Popen, TimeoutExpired

DEADLINE = 300          # s that a run, or the end of one whose worker was killed, may take on a loaded machine
ORPHAN = 10             # s that the workers of a killed parent may live


class Killed(NamedTuple):
    """A run that was killed. victim: "parent" or "worker"; seconds: from its start; code: its return code, None when it
    did not end; error: the last line of its standard error; orphans: how many workers outlived it."""

    victim: str
    seconds: float
    code: int | None
    error: str
    orphans: int

    @property
    def fault(self) -> str:
        """What is wrong with how it ended; "" for nothing."""
        if self.code is None:
            return "hangs"
        if self.orphans:
            return "orphans"
        said = self.code == 2 and "a worker process ended with code -9" in self.error
        # a worker that had no job left was needed no longer
        fine = self.code == -signal.SIGKILL if self.victim == "parent" else said or self.code == 0
        return "" if fine else f"code {self.code}: {self.error}"


def digests(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too -> SHA-256 of its bytes."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def alive(process: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def workers_of(parent: int) -> list[int]:
    """The processes that a parent spawned through `multiprocessing`, without its resource tracker."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == parent \
                    and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:         # ended meanwhile
            continue
    return sorted(found)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds. AssertionError at the deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "nothing came in time"
        time.sleep(0.005)


def run_and_kill(words: list[object], victim: str, moment: Callable[[], object], which: int = 0) -> Killed | None:
    """Run `python WORDS` and, once `moment()` is true, send SIGKILL to it or to its worker number `which` -> how it
    ended; None when it ended by itself before."""
    start = time.monotonic()
    process = Popen(*words, stdout=DEVNULL, stderr=PIPE)

    def targets() -> list[int]:
        return workers_of(process.pid) if victim == "worker" else [process.pid]
    try:
        wait_for(lambda: process.poll() is not None or moment() and targets())
        workers, seconds = workers_of(process.pid), time.monotonic() - start
        killed = process.poll() is None and _kill(targets(), which)
        code, error = _end(process)
    finally:
        process.kill()
    end = time.monotonic() + ORPHAN
    while any(map(alive, workers)) and time.monotonic() < end:
        time.sleep(0.01)
    if not killed or victim == "parent" and code == 0:       # it ended just before
        return None
    return Killed(victim, seconds, code, error, sum(map(alive, workers)))


def _kill(numbers: list[int], which: int) -> bool:
    try:
        os.kill(numbers[which % max(1, len(numbers))], signal.SIGKILL)
        return True
    except (IndexError, ProcessLookupError):        # it has ended
        return False


def _end(process: Popen) -> tuple[int | None, str]:
    """Its return code, None if it hangs, and the last line of its standard error."""
    try:
        lines = process.communicate(DEADLINE)[1].strip().splitlines()
    except TimeoutExpired:
        return None, ""
    return process.returncode, lines[-1] if lines else ""
