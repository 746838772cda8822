"""Dataset/io/atomic.py: the old file or the new one, never half of one; one writer a folder."""
import contextlib
import logging
import os
import subprocess
import sys

import pytest

from Dataset.io import atomic
from Dataset.io.atomic import (TEMPORARY, all_or_none, atomic_path, folder_lock, remove_leftovers, remove_leftovers_of,
                               write_text)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_written_aside_with_the_same_ending_then_renamed(tmp_path):
    target = tmp_path / "deep" / "a.weights.h5"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent and temporary.name.endswith("a.weights.h5")
        assert temporary != target
        temporary.write_text("new")
        assert not target.exists()
    assert names(target.parent) == ["a.weights.h5"] and target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_leftover(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error):
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error
    assert names(tmp_path) == ["a.txt"] and target.read_text() == "old"


def test_nothing_written_is_an_error(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(OSError, match="a.txt: nothing was written"):
        with atomic_path(target):
            pass
    assert names(tmp_path) == []


def test_a_pipe_is_not_replaced_and_errors_name_the_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "link.txt").symlink_to("pipe.txt")
    for name in ("pipe.txt", "link.txt"):
        with pytest.raises(ValueError, match=f"{name}: is there, and is no regular file"):
            write_text(tmp_path / name, "new")
    assert (tmp_path / "pipe.txt").is_fifo() and len(list(tmp_path.iterdir())) == 2
    for together in (contextlib.nullcontext(), all_or_none()):
        with pytest.raises(OSError) as error, together:
            write_text(tmp_path / f"{'a' * 245}.txt", "new")        # with the temporary's letters too long
        assert error.value.filename == str(tmp_path / f"{'a' * 245}.txt") and ".tmp-" not in str(error.value)


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / ".tmp-0123-a.txt").write_text("half")
    write_text(tmp_path / "a.txt", "é\n")
    assert remove_leftovers(tmp_path) == 1
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"


def test_leftovers_of_one_file_are_removed_when_their_writer_is_dead(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name in (f".tmp-{dead.pid}-01-a.txt", ".tmp-old-a.txt", f".tmp-{os.getpid()}-02-a.txt",
                 f".tmp-{os.getppid()}-03-a.txt", f".tmp-{dead.pid}-04-b.txt", "a.txt"):
        (tmp_path / name).touch()
    remove_leftovers_of(tmp_path / "a.txt")
    assert names(tmp_path) == sorted([f".tmp-{os.getppid()}-03-a.txt", f".tmp-{dead.pid}-04-b.txt", "a.txt"])
    with atomic_path(tmp_path / "c.txt") as temporary:          # the name says who writes
        temporary.touch()
        assert temporary.name.startswith(f".tmp-{os.getpid()}-")


def test_a_locked_folder_refuses_a_second_writer_and_is_free_after_the_first(tmp_path):
    pytest.importorskip("fcntl")
    out = tmp_path / "deep" / "OUT"
    for error in (None, KeyError):      # left by its end, left by an error
        try:
            with folder_lock(out):
                with pytest.raises(ValueError, match="OUT: another process is writing here; wait until it ends"):
                    with folder_lock(out):
                        raise AssertionError("the body must not run")
                with folder_lock(tmp_path / "other"):
                    pass
                if error:
                    raise error
        except KeyError:
            pass
        with folder_lock(out):
            pass
    assert names(out) == []


def test_a_killed_holder_frees_the_folder(tmp_path):
    pytest.importorskip("fcntl")
    code = ("import sys\nfrom Dataset.io.atomic import folder_lock\n"
            "with folder_lock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()")
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another process is writing here"):
            with folder_lock(tmp_path):
                pass
    finally:
        holder.kill()                   # SIGKILL: nothing of the holder runs after it
        holder.communicate()
    with folder_lock(tmp_path):
        assert names(tmp_path) == []


def test_a_lock_on_no_folder_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match="a.txt: exists and is not a folder"):
        with folder_lock(tmp_path / "a.txt"):
            pass
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_where_there_are_no_locks_the_work_goes_on(tmp_path, monkeypatch, caplog):
    pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    ran = []
    monkeypatch.setattr(atomic.fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), folder_lock(tmp_path):
        ran.append("no lock")
    assert "cannot be locked (Operation not supported)" in caplog.text
    monkeypatch.setattr(atomic, "fcntl", None)
    with folder_lock(tmp_path):
        ran.append("Windows")
    assert ran == ["no lock", "Windows"]


def test_files_of_one_answer_appear_together(tmp_path):
    (tmp_path / "a").write_text("old")
    with all_or_none():
        write_text(tmp_path / "a", "1")
        with all_or_none():
            write_text(tmp_path / "sub" / "b", "2")
        assert (tmp_path / "a").read_text() == "old" and not (tmp_path / "sub" / "b").exists()
    assert (tmp_path / "a").read_text() == "1" and (tmp_path / "sub" / "b").read_text() == "2"
    assert not [path for path in tmp_path.rglob(f"{TEMPORARY}*")]


@pytest.mark.parametrize("fault", [ValueError("no face"), OSError("full"), KeyboardInterrupt()])
def test_none_appears_where_one_cannot_be_written(tmp_path, fault):
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(fault)):
        with all_or_none():
            write_text(tmp_path / "a", "1")
            write_text(tmp_path / "b", "2")
            raise fault
    assert (tmp_path / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a"]
    write_text(tmp_path / "a", "alone again")
    assert (tmp_path / "a").read_text() == "alone again"


def test_a_folder_in_the_place_of_a_file_stops_all(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError, match=f"{tmp_path / 'b'}"):
        with all_or_none():
            write_text(tmp_path / "a", "1")
            write_text(tmp_path / "b", "2")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
