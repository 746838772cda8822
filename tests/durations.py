"""The longest test files first, by recorded seconds: two workers then end at nearly the same time.

pytest-xdist's own order is by number of tests, which puts a file of three long tests last; the Makefile switches it
off (--no-loadscope-reorder). A file without a record counts as the average of the others. Each run closes with the
seconds of the longest files; `make durations` writes all of them to durations.json.
"""
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

RECORD = Path(__file__).with_suffix(".json")
SHOWN = 15


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-durations", action="store_true", help=f"write {RECORD.name}: seconds of each test file")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):      # the process that hears of every test
        config.pluginmanager.register(Recorder(RECORD if config.getoption("--record-durations") else None))


def file_of(nodeid: str) -> str:
    return nodeid.split("::")[0]


def in_order(files: list[str], seconds: dict[str, float]) -> list[str]:
    """The file of each test -> each file once, by falling seconds, then by falling number of tests, then in the given
    order. A file without a record counts as the mean of `seconds`."""
    mean = sum(seconds.values()) / max(len(seconds), 1)
    return sorted(Counter(files), key=lambda file: (-seconds.get(file, mean), -files.count(file)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seconds = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    ordered = in_order([file_of(item.nodeid) for item in items], seconds)
    position = {file: number for number, file in enumerate(ordered)}
    items.sort(key=lambda item: position[file_of(item.nodeid)])        # stable: a file's tests keep their order


class Recorder:
    """Adds up the seconds of each file: its tests and their fixtures. A file that was not run keeps its record while
    it exists."""

    def __init__(self, record: Path | None = None) -> None:
        self.record, self.seconds = record, Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[file_of(report.nodeid)] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if len(self.seconds) > 1:
            terminalreporter.section(f"seconds of the {SHOWN} longest files")
            for file, seconds in self.seconds.most_common(SHOWN):
                terminalreporter.line(f"{seconds:7.1f} {file}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not self.record:
            return
        before = json.loads(self.record.read_text()) if self.record.exists() else {}
        known = {file: s for file, s in before.items() if (session.config.rootpath / file).exists()}
        found = {**known, **{file: round(s, 1) for file, s in self.seconds.items()}}
        self.record.write_text(json.dumps(dict(sorted(found.items(), key=lambda item: -item[1])), indent=1) + "\n")
