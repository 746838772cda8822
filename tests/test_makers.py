"""The makers of data, killed and started again, in a locked folder, on a full disk."""
import os
import sys

import pytest

from Dataset import shards as shards_command
from Dataset.io import atomic
from Dataset.io.atomic import folder_lock
from Dataset.sources import bu4dfe, texas3d
from Dataset.synthesis import shards, subject_folders
from tests.bench.kills import SMALL, trial
from tests.commands import command
from tests.forkserver import run
from tests.kills import digests, run_and_kill
from tests.raw_bu4dfe import shared_raw

KILLS = pytest.mark.skipif(sys.platform != "linux", reason="finds children in /proc")


@pytest.mark.parametrize("maker, argv", [
    (subject_folders, []), (shards, []), (texas3d, ["SOURCE"]), (bu4dfe, ["SOURCE"])])
def test_makers_take_the_folder_that_they_left_and_no_locked_one(maker, argv, tmp_path, monkeypatch):
    """Up to the first job, which is not reached."""
    def stop(*_, **more):
        more["begin"]()
        raise ValueError("begun")
    monkeypatch.setattr(maker, "make_folders", stop)
    if argv:
        monkeypatch.setattr(maker, *{texas3d: ("find_pairs", lambda source: texas3d.Found({}, [], (9, 9))),
                                     bu4dfe: ("find_subject_folders", lambda *_: [])}[maker])
    main = shards_command.main if maker is shards else maker.main
    out = tmp_path / "OUT"
    out.mkdir()
    (out / ".tmp-1-0123456789ab-dataset.json").write_text("{")      # killed before the first rename
    for _ in range(2):
        done = command(main, *argv, out)
        assert done.returncode == 2 and done.stderr.endswith(": begun\n") and done.stderr.count("\n") == 1
    before = digests(out)
    with folder_lock(out):
        done = command(main, *argv, out)
    assert done.returncode == 2 and "another process is writing here" in done.stderr and done.stderr.count("\n") == 1
    assert digests(out) == before


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    words, flush = [shared_raw(), tmp_path / "OUT", "--points", "128", "--size", "32"], atomic._flush

    def full(path):
        if path.name.endswith("Sad_001.jpg"):
            raise OSError(28, "No space left on device", str(path))
        flush(path)
    monkeypatch.setattr(atomic, "_flush", full)
    done = command(bu4dfe.main, *words)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("Dataset.bu4dfe: ")
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    assert os.listdir(tmp_path / "OUT") == ["dataset.json"]


@KILLS
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("maker", SMALL)
def test_twenty_kills_do_not_show_in_the_bytes(maker, tmp_path):
    found = trial(maker, 20, 0, tmp_path)
    assert len(found.kills) == 20 and found.compared and found.faults() == []
    assert {kill.victim for kill in found.kills} == {"parent"} | {"worker"} * (maker != "synthetic_video")


@KILLS
@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_a_maker_killed_once(victim, tmp_path):
    """One real command, while its workers render."""
    words = ["-m", "Dataset.synthetic", tmp_path / "OUT", *SMALL["synthetic"].split(), "--workers", 2]
    killed = run_and_kill(words, victim, lambda: list((tmp_path / "OUT").glob(".work-*/*/001.jpg")))
    assert killed and killed.victim == victim and killed.fault == ""
    assert run(*words[:3], *SMALL["synthetic"].split()).returncode == 0
    options = subject_folders.Options(subjects=5, images=3, size=32, points=64)
    subject_folders.make_dataset(tmp_path / "clean", options)
    assert digests(tmp_path / "OUT") == digests(tmp_path / "clean")
