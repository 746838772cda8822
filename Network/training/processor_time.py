"""Processor time that a training has cost, in seconds: model cards state it as CPU-hours."""
from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path


def processor_seconds() -> float:
    """User and system time of this process (all threads), of its ended children, and of the worker processes that
    multiprocessing has running. It never falls while the process lives."""
    running = [process.pid for process in multiprocessing.active_children()]    # joins those that have ended
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system + sum(map(_seconds_of, running))


def _seconds_of(pid: int | None) -> float:
    """The time of a running process and of its own ended children; 0 where there is no /proc."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()    # the name before may hold spaces
    except OSError:
        return 0.0
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")       # utime, stime, cutime, cstime: man 5 proc
