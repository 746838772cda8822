"""Dataset/io/work_folder.py: sub-folders are whole or not there, whatever was killed."""
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from Dataset.io.atomic import folder_lock
from Dataset.io.work_folder import MARK, make_folders, require_new
from Dataset.io.workers import WorkerDied
from tests.kills import digests, run_and_kill

KILLS = pytest.mark.skipif(sys.platform != "linux", reason="finds children in /proc")
JOBS = {f"N{number}": number for number in range(4)}


def fill(folder, number):
    """The job of these tests: two files, one of them deeper; odd numbers report something."""
    (folder / "a.txt").write_text("a" * number + "\n")
    (folder / "deep").mkdir()
    (folder / "deep" / "b.bin").write_bytes(bytes([number]))
    return [number, "odd"] if number % 2 else None


def die_once(folder, number):
    """N2 kills its worker half-way, and says so in a file beside OUT, by which it knows next time."""
    said = folder.parents[2] / "died"
    (folder / "half").touch()
    if number == 2 and not said.exists():
        said.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "half").unlink()
    return fill(folder, number)


def stand_still(folder, number):
    """N0 is made; the others say that they have begun, and compute without end in one call into C, which lets no
    other thread of the process run."""
    if number:
        (folder / "half").write_text("half")
        sum(range(1 << 60))
    return fill(folder, number)


def make(out, function=fill, jobs=JOBS, **more):
    with folder_lock(out):
        return make_folders(out, function, jobs, **more)


@pytest.fixture
def made(tmp_path) -> Path:
    make(tmp_path / "clean")
    return tmp_path / "clean"


def test_sub_folders_their_reports_and_nothing_else(made, tmp_path):
    assert sorted(os.listdir(made)) == list(JOBS)
    assert sorted(digests(made / "N3")) == [MARK, "a.txt", "deep/b.bin"]
    seen, begun = [], []

    def progress(names, total):
        for name in names:
            assert (tmp_path / "two" / name / MARK).is_file()       # it has its name when it is counted
            seen.append((name, total))
            yield name
    found = make(tmp_path / "two", workers=2, progress=progress, begin=lambda: begun.append(1))
    assert sorted(seen) == [(name, 4) for name in JOBS] and begun == [1] and digests(tmp_path / "two") == digests(made)
    assert found.names == list(JOBS) == list(found.reports)
    assert list(found.reports.values()) == [None, [1, "odd"], None, [3, "odd"]]
    again = make(tmp_path / "two", begin=lambda: begun.append(2))
    assert again == ([], found.reports) and begun == [1]


@pytest.mark.parametrize("damage", [
    lambda folder: (folder / "a.txt").unlink(), lambda folder: (folder / "deep" / "b.bin").write_bytes(b""),
    lambda folder: (folder / "c.txt").touch(), lambda folder: (folder / MARK).unlink(),
    lambda folder: (folder / MARK).write_text("{"), lambda folder: (folder / MARK).write_text('{"files": {}}'),
    lambda folder: [shutil.rmtree(folder), folder.mkdir(), (folder / MARK).write_text('{"files": {}, "report": null}')],
    lambda folder: [path.unlink() for path in (folder / "a.txt", folder / "deep" / "b.bin")], shutil.rmtree,
    lambda folder: [shutil.rmtree(folder), folder.write_text("a file")]])
def test_a_mark_counts_only_above_what_it_names(made, tmp_path, damage):
    out = shutil.copytree(made, tmp_path / "OUT")
    damage(out / "N1")
    stamp = (out / "N2" / "a.txt").stat().st_mtime_ns
    assert make(out).names == ["N1"]
    assert digests(out) == digests(made) and (out / "N2" / "a.txt").stat().st_mtime_ns == stamp


def test_a_job_that_keeps_nothing_is_tried_again_and_leaves_nothing(made, tmp_path):
    def nothing(folder, number):
        shutil.rmtree(folder)
        return "none"
    out = shutil.copytree(made, tmp_path / "OUT")
    (out / "N1" / "a.txt").unlink()
    for _ in range(2):
        found = make(out, nothing)
        assert found.names == ["N1"] and found.reports["N1"] == "none" and sorted(os.listdir(out)) == ["N0", "N2", "N3"]
    make(out)
    assert digests(out) == digests(made)


def test_an_error_of_a_job_leaves_what_is_finished_and_no_private_folder(made, tmp_path):
    def full(folder, number):
        if number == 2:
            raise OSError(28, "No space left on device")
        return fill(folder, number)
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path / "OUT", full)
    assert sorted(os.listdir(tmp_path / "OUT")) == ["N0", "N1"]
    assert make(tmp_path / "OUT").names == ["N2", "N3"] and digests(tmp_path / "OUT") == digests(made)


def test_what_dead_runs_left_is_removed(made, tmp_path):
    out = shutil.copytree(made, tmp_path / "OUT")
    (out / ".work-dead" / "N1").mkdir(parents=True)
    (out / ".work-dead" / "N1" / "a.txt").write_text("half")
    (out / ".tmp-1-0123-split.json").write_text("half")
    make(out)
    assert digests(out) == digests(made) and sorted(os.listdir(out)) == list(JOBS)


def test_before_the_first_file_a_folder_is_new(tmp_path):
    require_new(tmp_path / "none")
    (tmp_path / ".work-dead").mkdir()
    (tmp_path / ".tmp-1-0123-dataset.json").write_text("{")
    require_new(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="must be new, empty, or begun by this program; it holds something else"):
        require_new(tmp_path)
    with pytest.raises(ValueError, match="notes.txt: OUT must be new"):
        require_new(tmp_path / "notes.txt")


@KILLS
def test_a_killed_worker_is_an_error_and_the_same_call_continues(made, tmp_path):
    out = tmp_path / "OUT"
    with pytest.raises(WorkerDied, match="^a worker process ended with code -9: killed"):
        make(out, die_once, workers=2)
    assert (tmp_path / "died").exists() and not list(out.glob(".*")) and set(os.listdir(out)) < set(JOBS)
    assert make(out, die_once, workers=2).names
    assert digests(out) == digests(made)


@KILLS
def test_a_killed_process_takes_its_workers_along_and_the_same_call_continues(made, tmp_path):
    """Workers that let no thread run: the kernel must end them."""
    out = tmp_path / "OUT"
    code = (f"from pathlib import Path; from tests.test_work_folder import make, stand_still\n"
            f"if __name__ == '__main__':\n    make(Path({str(out)!r}), stand_still, workers=2)")

    def both_stand():
        return (out / "N0").is_dir() and len(list(out.glob(".work-*/*/half"))) == 2
    killed = run_and_kill(["-c", code], "parent", both_stand)
    assert killed and killed.fault == "" and both_stand()
    assert make(out).names == ["N1", "N2", "N3"] and digests(out) == digests(made)
