"""Dataset/io/workers.py: jobs in other processes, and what happens when these are killed."""
import multiprocessing
import os
import signal
import sys
import time

import pytest

from Dataset.io.workers import WorkerDied, Workers, run_jobs
from tests.forkserver import PIPE, Popen
from tests.kills import alive


def _square(number):
    return number * number


def _where(_):
    import cv2
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS"), cv2.getNumThreads()


def _die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _sleep(seconds):
    time.sleep(seconds)


def _hog(_):
    return sum(range(1 << 60))      # one call into C, during which no other thread runs


def _refuse(number):
    raise ValueError(f"no {number}")


class _Odd(Exception):
    def __init__(self, one, two):       # cannot be unpickled from its message alone
        super().__init__("odd")


def _odd(_):
    raise _Odd(1, 2)


@pytest.fixture(scope="module")
def pool():
    with Workers(2) as workers:
        yield workers


def test_jobs_are_done_elsewhere_on_one_thread_each(pool, monkeypatch):
    assert [future.result() for future in [pool.submit(_square, n) for n in range(5)]] == [0, 1, 4, 9, 16]
    process, *threads = pool.submit(_where, 0).result()
    assert process != os.getpid() and threads == ["1", "1", 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with Workers(1):
        assert os.environ["OMP_NUM_THREADS"] == "3"     # here it is as it was


def test_a_jobs_error_comes_back_with_its_traceback(pool):
    with pytest.raises(ValueError, match="no 7") as caught:
        pool.submit(_refuse, 7).result()
    assert "in _refuse" in str(caught.value.__cause__)
    with pytest.raises(RuntimeError, match="_Odd: odd"):
        pool.submit(_odd, 0).result()
    assert pool.submit(_square, 6).result() == 36       # the process lives on


def test_run_jobs_in_one_and_in_two_processes():
    assert list(run_jobs(_square, [1, 2, 3], 1)) == [1, 4, 9]
    assert sorted(run_jobs(_square, [1, 2, 3], 2)) == [1, 4, 9]
    assert list(run_jobs(_square, [], 2)) == []
    assert {where[0] for where in run_jobs(_where, [0], 2)} == {os.getpid()}
    with pytest.raises(ValueError, match="workers must be within 1 to 256, got 0"):
        list(run_jobs(_square, [1, 2], 0))


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_a_killed_worker_is_an_error_and_ends_the_others():
    before = set(multiprocessing.active_children())
    with pytest.raises(WorkerDied, match="^a worker process ended with code -9: killed, perhaps for want of memory$"):
        list(run_jobs(_die, list(range(8)), 2))
    assert set(multiprocessing.active_children()) <= before
    assert issubclass(WorkerDied, RuntimeError) and issubclass(WorkerDied, OSError)


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_no_job_waits_for_a_dead_worker():
    with Workers(1) as workers:
        for _ in range(2):
            with pytest.raises(WorkerDied):
                workers.submit(_die, 3).result()


def test_close_does_not_wait_for_jobs_and_cancels_the_rest():
    workers = Workers(1)
    workers.submit(_square, 1).result()                 # begun
    long, waiting = workers.submit(_sleep, 3600), workers.submit(_square, 2)
    deadline = time.monotonic() + 60
    while not long.running():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers.close()
    assert isinstance(long.exception(), WorkerDied) and waiting.cancelled()
    with pytest.raises(RuntimeError):
        workers.submit(_square, 3)
    workers.close()                                     # again is no error


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of the worker must notice")
@pytest.mark.parametrize("thread", ["MainThread", "other"])
def test_workers_end_with_a_parent_that_is_killed(thread):
    """Also one that lets no thread run; and a pool that another thread made outlives that thread."""
    code = ("import threading\nfrom Dataset.io.workers import Workers\n"
            "from tests.test_workers import _hog, _sleep, _where\n"
            "def begin():\n    global pool\n    pool = Workers(1); pool.submit(_where, 0).result()\n"
            "if __name__ == '__main__':\n"
            f"    if '{thread}' == 'MainThread':\n        begin(); job = _hog, 0\n"
            "    else:\n        t = threading.Thread(target=begin); t.start(); t.join(); job = _sleep, 3600\n"
            "    print(pool.submit(_where, 0).result()[0], flush=True); pool.submit(*job).result()")
    parent = Popen("-c", code, stdout=PIPE)
    child = int(parent.stdout.readline())
    try:
        assert alive(child)
        parent.kill()
        assert parent.wait(60) == -signal.SIGKILL
        deadline = time.monotonic() + 60
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(child)
    finally:
        if alive(child):
            os.kill(child, signal.SIGKILL)
