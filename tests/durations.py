"""The longest test files first, by recorded seconds: two workers then end at nearly the same time.

pytest-xdist's own order is by number of tests, which puts a file of three long tests last; the Makefile switches it
off (--no-loadscope-reorder). A file without a record counts as long. `make durations` records anew, in the controlling
process, what each file's tests and fixtures took.
"""
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

RECORD = Path(__file__).with_suffix(".json")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help=f"write {RECORD.name}: seconds of each test file")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())


def in_order(files: list[str], seconds: dict[str, float]) -> list[str]:
    """Files by falling seconds, those without a record before them; in the given order among equals."""
    return sorted(dict.fromkeys(files), key=lambda file: -seconds.get(file, float("inf")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seconds = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    files = [item.nodeid.split("::")[0] for item in items]
    place = {file: number for number, file in enumerate(in_order(files, seconds))}
    items.sort(key=lambda item: place[item.nodeid.split("::")[0]])      # stable: a file's tests keep their order


class Recorder:
    """Adds up the seconds of each file and writes them at the end of the session. A file that was not run keeps its
    record while it exists."""

    def __init__(self, record: Path = RECORD) -> None:
        self.record, self.seconds = record, Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid.split("::")[0]] += report.duration

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        before = json.loads(self.record.read_text()) if self.record.exists() else {}
        known = {file: s for file, s in before.items() if (session.config.rootpath / file).exists()}
        found = {**known, **{file: round(s, 1) for file, s in self.seconds.items()}}
        self.record.write_text(json.dumps(dict(sorted(found.items(), key=lambda item: -item[1])), indent=1) + "\n")
