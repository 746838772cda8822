"""Hostile input by the hundred:  python -m tests.bench.hostile [--count 40] [--kinds WORD ...] [--against COMMIT]

Mutants of each format that is read, hostile flags, settings, models, outputs and arguments, made from a seed. A case
runs in a forked child with limits of time and memory, and ends as

    clear       refused: ValueError or exit code 2, one line that says what is wrong
    fine        accepted, and what came out is sound
    traceback   another exception, or a traceback on standard error
    signal      the process died
    hang        no end within the limit
    wrong       accepted and unsound, too much memory, half an answer on the disk, or a message of no use

Exit code 1 if any case ends in the last four. --against runs the same cases on another commit of this repository and
prints both, then and now. The page's cases are those of tests/bench/hostile_page.py.
"""
from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

ENDS = ("clear", "fine", "traceback", "signal", "hang", "wrong")
BAD, ABSENT = ENDS[2:], "absent"       # of a commit that has no such thing
SECONDS, WAIT = 20, 900             # of a case: processor time, s; wall-clock time, s, which a busy machine makes long
IDLE = 30                           # s, of a case that would wait and not work
MEMORY, PEAK = 8 << 30, 1 << 30     # bytes of address space, bytes in use
Case = tuple[str, Callable[[], str]]
# a work tree's own modules alone: the finder of an editable install would add those that only the other tree has
ALONE = """import runpy, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
runpy.run_module("tests.bench.hostile", run_name="__main__", alter_sys=True)"""


class End(NamedTuple):
    """How a case ended, of ENDS, and in words."""

    kind: str
    end: str
    words: str


def run_case(kind: str, case: Callable[[], str], seconds: float = WAIT) -> End:
    """One case in a forked child. The case returns "clear", "fine" or "wrong: why"; what it raises is a traceback."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(ours)
        _child(case, theirs)
    os.close(theirs)
    text, deadline = b"", time.monotonic() + seconds
    while True:
        ready = select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(ours)
            return End(kind, "hang", f"no end after {seconds:g} s")
        part = os.read(ours, 65536)
        if not part:
            break
        text += part
    os.close(ours)
    status = os.waitpid(child, 0)[1]
    if not text and os.WTERMSIG(status) == signal.SIGXCPU:
        return End(kind, "hang", f"no end after {SECONDS} s of processor time")
    if not text:
        return End(kind, "signal", f"status {status}: signal {os.WTERMSIG(status)}")
    end, _, words = text.decode("utf-8", "replace").partition(": ")
    return End(kind, end if end in (*ENDS, ABSENT) else "wrong", words)


def _child(case: Callable[[], str], pipe: int) -> None:
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        answer = case()
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if taken > PEAK >> 10 and answer in ("clear", "fine"):
            answer = f"wrong: took {taken >> 10} MB"
    except MemoryError:
        answer = f"wrong: more than {MEMORY >> 30} GB"
    except BaseException as error:
        answer = f"traceback: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    os.write(pipe, answer.encode("utf-8", "replace")[:4000])
    os._exit(0)


def every_case(seed: int, count: int, folder: Path, wanted: list[str]) -> Iterator[Case]:
    """All kinds whose names contain one of `wanted`, or all."""
    from tests.bench import hostile_cases
    yield from hostile_cases.cases(seed, count, folder, wanted)
    page_wanted = not wanted or any("page" in word for word in wanted)
    if page_wanted and importlib.util.find_spec("tests.bench.hostile_page"):
        page = importlib.import_module("tests.bench.hostile_page")
        yield from (case for case in page.cases() if not wanted or any(word in case[0] for word in wanted))


def table(ends: dict[str, Counter], before: dict[str, dict[str, int]] | None = None) -> str:
    """One row a kind; with `before` each cell is then/now."""
    rows = [["", *ENDS]]
    total: Counter = Counter()
    was: Counter = Counter()
    for kind, found in ends.items():
        old = None if before is None else before.get(kind, {})
        rows.append([kind, *(str(found[end]) if old is None else f"{old.get(end, 0)}/{found[end]}" for end in ENDS)])
        total.update(found)
        was.update(old or {})
    rows.append(["together", *(str(total[end]) if before is None else f"{was[end]}/{total[end]}" for end in ENDS)])
    rows.insert(1, ["---", *(["---:"] * len(ENDS))])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def run_against(commit: str, words: list[str]) -> dict[str, dict[str, int]]:
    """The same cases on another commit, in a work tree of its own: kind -> end -> how many."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "-C", root, "worktree", "add", "--detach", tree, commit], check=True,
                       capture_output=True)
        try:
            bench = tree / "tests" / "bench"
            bench.mkdir(parents=True, exist_ok=True)
            for name in ("hostile", "hostile_cases", "hostile_commands", "hostile_files", "hostile_page"):
                (bench / f"{name}.py").write_text((Path(__file__).parent / f"{name}.py").read_text())
            for package in (bench.parent, bench):
                (package / "__init__.py").touch()
            out = Path(folder) / "ends.json"
            subprocess.run([sys.executable, "-c", ALONE, *words, "--json", str(out)], cwd=tree,
                           env={**os.environ, "PYTHONPATH": str(tree)}, check=False, stdout=subprocess.DEVNULL)
            return json.loads(out.read_text())
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", tree], check=False, capture_output=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hostile", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="mutants of each kind (default 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=[], metavar="WORD", help="only kinds whose names contain a word")
    parser.add_argument("--against", metavar="COMMIT", help="also run them on this commit")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers, too")
    arguments = parser.parse_args(argv)
    ends: dict[str, Counter] = {}
    shown: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for kind, case in every_case(arguments.seed, arguments.count, Path(folder), arguments.kinds):
            end = run_case(kind, case, IDLE if kind.startswith("no file") else WAIT)
            ends.setdefault(kind, Counter())[end.end] += 1
            words = re.sub(re.escape(folder), "", end.words)
            if end.end in BAD and shown[kind, end.end] < 5:
                shown[kind, end.end] += 1
                print(f"{kind}: {end.end}: {words}", file=sys.stderr, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(ends))
    before = None
    if arguments.against:
        words = ["--count", str(arguments.count), "--seed", str(arguments.seed)]
        before = run_against(arguments.against, words + (["--kinds", *arguments.kinds] if arguments.kinds else []))
    print(table(ends, before))
    return int(any(found[end] for found in ends.values() for end in BAD))


if __name__ == "__main__":
    sys.exit(main())
