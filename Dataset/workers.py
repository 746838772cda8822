"""Worker processes that render: a pool for files on disk, and an endless stream in a fixed order."""
from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Callable, Iterator

import cv2
import numpy as np

from Dataset.face_model import load_face_model
from Dataset.renders import RenderOptions, layout, render_person
from Dataset.scene import Stage

_AHEAD = 2              # people that a worker of a stream may have ready
_POLL = 0.5             # seconds between looks at whether the other side is alive


@lru_cache(maxsize=1)
def render_stage() -> Stage:
    """This process's stage, made once, with single-threaded rays."""
    return Stage(load_face_model(), threads=1)


def run_jobs(function: Callable[[Any], Any], jobs: list[Any], workers: int) -> Iterator[Any]:
    """function(job) of all jobs, in the order in which they finish; in this process for one worker."""
    if workers == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    with _quiet():
        pool = multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), initializer=_begin_worker)
    with pool:
        yield from pool.imap_unordered(function, jobs)


def stream(options: RenderOptions, workers: int = 1, first: int = 0) -> Iterator[dict[str, np.ndarray]]:
    """People first, first + 1, ... without end (`options.people` does not bound them), each as
    `Dataset.renders.render_person` gives it; the order and the bytes do not depend on ``workers``.

    Renders in ``workers`` spawned processes that stay at most two people ahead each; closing the generator (or
    leaving it to the collector) ends them. ValueError for a number of workers outside 1 to 256; RuntimeError when a
    worker dies.
    """
    if not 1 <= workers <= 256:
        raise ValueError(f"workers must be within 1 to 256, got {workers}")
    return _stream(options, workers, first)


def _stream(options: RenderOptions, workers: int, first: int) -> Iterator[dict[str, np.ndarray]]:
    spawn = multiprocessing.get_context("spawn")
    ready = [spawn.Queue(_AHEAD) for _ in range(workers)]
    made = [spawn.Process(target=_render_on, args=(options, first + k, workers, ready[k]), daemon=True)
            for k in range(workers)]
    try:
        with _quiet():
            for process in made:
                process.start()
        turn = 0
        while True:
            yield _next(ready[turn], made[turn], options)
            turn = (turn + 1) % workers
    finally:
        for process in made:
            if process.pid is not None:
                process.terminate()
                process.join()
        for one in ready:
            one.close()
            one.cancel_join_thread()


def _next(ready: Any, process: Any, options: RenderOptions) -> dict[str, np.ndarray]:
    while True:
        alive = process.is_alive()
        try:
            values = ready.get(timeout=_POLL)
        except queue.Empty:
            if not alive:
                raise RuntimeError(f"a rendering process ended with code {process.exitcode}") from None
            continue
        return dict(zip(layout(options), values))


def _render_on(options: RenderOptions, first: int, step: int, ready: Any) -> None:
    """A stream's worker: every step-th person, for ever."""
    _begin_worker()
    number = first
    while True:
        ready.put(tuple(render_person(number, options, render_stage()).values()))
        number += step


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is the parent's; it ends the workers
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    """A parent that is killed takes its workers with it: none may write into a folder that another run goes on with."""
    parent.join()
    os._exit(1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Single-threaded numeric libraries in the processes begun here: their threads would wait for each other."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
