"""Folders of finished sub-folders: how every converter and renderer makes one, killed and started again at any moment.

    OUT/.work-.../NAME/     private to one run: a job fills it
    OUT/NAME/               the same folder, renamed when it is complete
    OUT/NAME/.done.json     its mark, written last: the sizes of all other files, and the job's report

The process that holds OUT's lock (`Dataset.io.atomic.folder_lock`) renames. Worker processes write into the private
folder of their run alone, so that one that outlives its parent does no harm. The next run removes what dead runs left
and makes the sub-folders without a mark, or whose files differ from it.
"""
from __future__ import annotations

import json
import logging
import os
import shutil
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Iterator, Mapping, NamedTuple

from Dataset.io.atomic import TEMPORARY, remove_leftovers, write_text
from Dataset.io.json_files import read_json
from Dataset.io.workers import run_jobs

log = logging.getLogger(__name__)
WORK, MARK = ".work", ".done.json"
Progress = Callable[..., Iterator[str]]


class Made(NamedTuple):
    """names: of the sub-folders that were missing, in the order of the jobs; reports: of all jobs, by name."""

    names: list[str]
    reports: dict[str, Any]


def require_new(out: Path) -> None:
    """ValueError unless OUT is missing or empty. What a run left that was killed before its first file is nothing."""
    if out.exists() and not (out.is_dir() and all(p.name.startswith((WORK, TEMPORARY)) for p in out.iterdir())):
        raise ValueError(f"{out}: OUT must be new, empty, or begun by this program; it holds something else")


def make_folders(out: Path, function: Callable[[Path, Any], Any], jobs: Mapping[str, Any], workers: int = 1,
                 progress: Progress | None = None, begin: Callable[[], Any] | None = None, shared: bool = False
                 ) -> Made:
    """Make the sub-folders of OUT that are missing or damaged. Hold `folder_lock(out)`, and know that OUT is yours:
    what dead runs left in it is deleted.

    function  (folder, job) -> report, plain JSON: fills the empty `folder`, in one of `workers` processes, or deletes
              it where there is nothing to keep; such a job is tried again by the next run
    jobs      name of a sub-folder -> job; both arguments can be pickled
    progress  (iterator, total=...): wraps the names as they are finished (tqdm)
    begin     called before the first job, if there is one
    shared    other machines make sub-folders of OUT, too, and no lock is held: what others left stays, and a sub-folder
              that one of them has finished meanwhile is kept

    WorkerDied if a worker process is killed; the same call continues.
    """
    if not shared:
        _remove_dead(out)
    reports = {name: mark["report"] for name in jobs if (mark := read_mark(out / name)) is not None}
    missing = [name for name in jobs if name not in reports]
    if reports and missing:
        log.info("%s: %d of %d are there", out, len(reports), len(jobs))
    if missing and begin:
        begin()
    with TemporaryDirectory(prefix=f"{WORK}-", dir=out, ignore_cleanup_errors=True) as work:
        tasks = [(function, Path(work) / name, jobs[name]) for name in missing]
        with closing(run_jobs(_run, tasks, workers)) as results, \
                closing(_named(out, results, reports, shared)) as names:
            for _ in names if progress is None else progress(names, total=len(missing)):
                pass
    if not shared:
        _remove_dead(out)       # a worker that outlived a dead run may have written until now
    return Made(missing, {name: reports[name] for name in jobs})


def _run(task: tuple[Callable[[Path, Any], Any], Path, Any]) -> tuple[Path, Any]:
    function, folder, job = task
    folder.mkdir()
    report = function(folder, job)
    if folder.is_dir():
        write_text(folder / MARK, json.dumps({"files": _sizes(folder), "report": report}) + "\n")
    return folder, report


def _named(out: Path, results: Iterator[tuple[Path, Any]], reports: dict[str, Any], shared: bool) -> Iterator[str]:
    """Give each finished folder its name in OUT. What has that name is damaged: it moves into the private folder at
    once, so that no reader sees half of it; or, where OUT is shared, another machine has just finished it."""
    for folder, report in results:
        target = out / folder.name
        if not (shared and read_mark(target)):
            if target.exists():
                os.replace(target, folder.with_name(f"{folder.name}.old"))
            try:
                if folder.is_dir():
                    os.replace(folder, target)
            except OSError:     # it has come between the two lines above
                if not (shared and read_mark(target)):
                    raise
        reports[folder.name] = report
        yield folder.name


def _sizes(folder: Path) -> dict[str, int]:
    """Name -> bytes of every file that is not hidden."""
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}


def read_mark(folder: Path) -> dict[str, Any] | None:
    """The mark of a finished folder; None if there is none, or the folder has other files than it names."""
    try:
        mark = read_json(folder / MARK)
        return mark if "report" in mark and mark["files"] and mark["files"] == _sizes(folder) else None
    except (ValueError, OSError, KeyError):
        return None


def _remove_dead(out: Path) -> None:
    """Delete what killed runs left. No other run is alive: this one holds the lock."""
    for folder in out.glob(f"{WORK}*"):
        shutil.rmtree(folder, ignore_errors=True)
    remove_leftovers(out)
