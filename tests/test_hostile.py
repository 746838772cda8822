"""tests/bench/hostile.py: a few cases of each kind end as they must; every end is recognised."""
import os
import signal
import time

import pytest

from tests import forkserver
from tests.bench.hostile import BAD, ENDS, run_case, table

pytestmark = pytest.mark.skipif(not forkserver.AVAILABLE, reason="forks, as on Linux")
KINDS = ("mesh", "landmarks", "volume", "MATLAB", "HDF5", "pickle", "image", "video", "JSON", "arguments: icp",
         "flags: evaluate.py", "flags: Dataset.s", "settings")


def test_no_case_of_a_kind_ends_badly():
    """One mutant of each format, every crafted file, hostile flags and settings."""
    done = forkserver.run("-m", "tests.bench.hostile", "--count", 1, "--kinds", *KINDS, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("|")]
    for kind in KINDS:
        assert any(row.startswith(kind) for row in rows), kind


def raise_it():
    raise KeyError("a bug")


@pytest.mark.parametrize("case, end", [
    (lambda: "clear", "clear"), (lambda: "fine", "fine"), (lambda: "wrong: half a file", "wrong"),
    (raise_it, "traceback"), (lambda: os.kill(os.getpid(), signal.SIGSEGV), "signal"),
    (lambda: time.sleep(60), "hang"), (lambda: bytes(1 << 40) and "fine", "wrong"), (lambda: os._exit(3), "signal")])
def test_each_end_is_recognised(case, end):
    assert run_case("kind", case, 1.0 if end == "hang" else 60).end == end


def test_the_table_has_a_row_a_kind_and_both_commits():
    ends = {"a": {"clear": 2, "hang": 1}, "b": {"fine": 3}}
    counts = {kind: {end: found.get(end, 0) for end in ENDS} for kind, found in ends.items()}
    assert "| a | 2 | 0 | 0 | 0 | 1 | 0 |" in table(counts)
    shown = table(counts, {"a": {"clear": 1, "signal": 2}})
    assert "| a | 1/2 | 0/0 | 0/0 | 2/0 | 0/1 | 0/0 |" in shown and "| together | 1/2 | 0/3 | 0/0 | 2/0 |" in shown
    assert set(BAD) < set(ENDS)
