"""Worker processes: they run functions for this process, with one thread each."""
from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import weakref
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import cv2

MAX_WORKERS = 256
_EXIT_SECONDS = 10      # that a process whose pipe broke may take to end
_PDEATHSIG = 1          # of prctl(2)


class WorkerDied(ChildProcessError, RuntimeError):
    """A worker process was killed, most often for lack of memory, or crashed. Also an OSError, which scripts report in
    one line."""


def check_workers(count: int) -> None:
    """ValueError for a number of worker processes that is out of range."""
    if not 1 <= count <= MAX_WORKERS:
        raise ValueError(f"--workers must be within 1 to {MAX_WORKERS}, got {count}")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_jobs(function: Callable[[Any], Any], jobs: list[Any], workers: int) -> Iterator[Any]:
    """function(job) of all jobs, in the order in which they finish; in this process if there is one worker.

    The first error of a job is raised here, or WorkerDied if a process is killed. An error ends the other processes, as
    closing the generator does.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(function, jobs)
        return
    with Workers(min(workers, len(jobs))) as pool:
        for done in as_completed([pool.submit(function, job) for job in jobs]):
            yield done.result()


class Workers:
    """A pool of spawned processes that take one job at a time, in the order of `submit`.

    `close` ends the processes without waiting for their jobs; so do the end of a `with` block and the end of this
    process. Each worker has its own pipe, which is closed when the process ends: a worker that is killed at any moment,
    also while it sends a result, is an error here. (The pools of concurrent.futures and multiprocessing share one pipe,
    which the other workers keep open, so that a killed worker can block them for ever.)

    count   1 to 256, else ValueError
    """

    def __init__(self, count: int) -> None:
        check_workers(count)
        spawn = multiprocessing.get_context("spawn")
        self._idle: queue.SimpleQueue = queue.SimpleQueue()
        self._processes: list[Any] = []
        self._threads = ThreadPoolExecutor(count, "workers")    # one thread per process, which waits for it
        weakref.finalize(self, _end, self._threads, self._processes)
        killed_with_us = threading.current_thread() is threading.main_thread()
        with _quiet():
            for _ in range(count):
                ours, theirs = spawn.Pipe()
                process = spawn.Process(target=_serve, args=(theirs, killed_with_us), daemon=True)
                process.start()
                theirs.close()          # the worker holds the only handle
                self._processes.append(process)
                self._idle.put((process, ours))

    def submit(self, function: Callable[[Any], Any], job: Any) -> Future:
        """Run function(job), both picklable, in one of the processes -> a future with the result or the error,
        WorkerDied if the process ended. RuntimeError after `close`."""
        return self._threads.submit(_call, self._idle, function, job)

    def close(self) -> None:
        """End the processes. Waiting jobs are cancelled; running jobs raise WorkerDied."""
        _end(self._threads, self._processes)
        for process in self._processes:
            process.join()
        self._threads.shutdown()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(threads: ThreadPoolExecutor, processes: list[Any]) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _call(idle: queue.SimpleQueue, function: Callable[[Any], Any], job: Any) -> Any:
    """Run one job in an idle process. A dead process is put back as well, so that no later job waits for it."""
    process, pipe = worker = idle.get()
    try:
        pipe.send((function, job))
        value, error, text = pipe.recv()
    except (EOFError, OSError):
        process.join(_EXIT_SECONDS)
        why = ": killed, perhaps for want of memory" if process.exitcode == -9 else ""
        raise WorkerDied(f"a worker process ended with code {process.exitcode}{why}") from None
    finally:
        idle.put(worker)
    if error is not None:
        raise error from RuntimeError(f"in a worker process:\n{text}")
    return value


def _serve(pipe: Any, killed_with_parent: bool) -> None:
    """The loop of a worker: receive jobs, send (result, error, traceback), until the other side closes the pipe."""
    _begin_worker(killed_with_parent)
    while True:
        try:
            function, job = pipe.recv()
        except EOFError:
            return
        try:
            answer = function(job), None, ""
        except Exception as error:
            answer = None, _sendable(error), traceback.format_exc()
        pipe.send(answer)


def _sendable(error: Exception) -> Exception:
    """The error, or a RuntimeError with its message if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _begin_worker(killed_with_parent: bool) -> None:
    """killed_with_parent: let Linux kill this process when the thread that started it ends. Else, and elsewhere, and if
    that thread has ended already, `_end_with` notices, as soon as the job lets a thread run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # Ctrl-C is the parent's; it ends the workers
    cv2.setNumThreads(1)
    if killed_with_parent and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    """End this worker when its parent ends: it must not write into a folder that a new run continues."""
    parent.join()
    os._exit(1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Start processes with single-threaded numeric libraries, whose threads would otherwise compete."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
