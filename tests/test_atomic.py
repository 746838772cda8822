"""Dataset/atomic.py: the old file or the new one, never half of one."""
import pytest

from Dataset.atomic import atomic_path, remove_leftovers, write_text


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


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / ".tmp-0123-a.txt").write_text("half")
    write_text(tmp_path / "a.txt", "é\n")
    assert remove_leftovers(tmp_path) == 1
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"
