"""tests/durations.py: the order of the files and the record of their seconds."""
import json
from types import SimpleNamespace

import pytest

from tests import durations
from tests.durations import Recorder, in_order


def test_long_files_come_first_and_unknown_ones_count_as_the_average():
    files = ["a", "one", "two", "b", "two", "a", "c"]
    assert in_order(files, {"a": 1.0, "b": 4.0, "c": 1.0}) == ["b", "two", "one", "a", "c"]
    assert in_order(files, {}) == ["a", "two", "one", "b", "c"]


def test_a_files_tests_stay_together_and_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(durations, "RECORD", tmp_path / "durations.json")
    (tmp_path / "durations.json").write_text('{"short.py": 1, "long.py": 2}')
    items = [SimpleNamespace(nodeid=name) for name in ("short.py::z", "short.py::a", "long.py::y", "long.py::b")]
    durations.pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["long.py::y", "long.py::b", "short.py::z", "short.py::a"]


def test_records_what_ran_and_forgets_files_that_are_gone(tmp_path):
    (tmp_path / "kept.py").touch()
    record = tmp_path / "durations.json"
    record.write_text(json.dumps({"gone.py": 9.0, "kept.py": 2.0, "ran.py": 50.0}))
    recorder = Recorder(record)
    for nodeid, seconds in (("ran.py::a", 1.25), ("ran.py::b[x]", 2.0)):
        recorder.pytest_runtest_logreport(SimpleNamespace(nodeid=nodeid, duration=seconds))
    recorder.pytest_sessionfinish(SimpleNamespace(config=SimpleNamespace(rootpath=tmp_path)))
    assert list(json.loads(record.read_text()).items()) == [("ran.py", pytest.approx(3.25, abs=0.06)), ("kept.py", 2.0)]
