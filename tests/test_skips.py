"""tests/skips.py: an unexpected skip fails a run of CI, an expected one does not."""
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import skips

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
import pytest
{module}
def test_runs():
    pass
def test_skips():
    pytest.skip({reason!r})
@pytest.mark.xfail
def test_is_expected_to_fail():
    assert False
"""


def report(reason: str, **more) -> SimpleNamespace:
    return SimpleNamespace(skipped=True, nodeid="tests/test_x.py::test_y", longrepr=("x.py", 3, f"Skipped: {reason}"),
                           **more)


@pytest.mark.parametrize("reason, kept", [
    ("the shared scorer is not on this machine", False), ("torch is not installed", False),
    ("jax is not installed", True), ("could not import 'tensorflow': no", True), ("", False),
    ("chromium and chromedriver are not installed (Debian: chromium chromium-driver)", False)])
def test_only_named_reasons_are_allowed(reason, kept, monkeypatch):
    monkeypatch.setattr(skips, "_unexpected", [])
    skips.note(report(reason))
    skips.note(report("anything", wasxfail="known"))
    skips.note(SimpleNamespace(skipped=False, nodeid="a", longrepr=None))
    assert skips._unexpected == ([f"tests/test_x.py::test_y: {reason}"] if kept else [])


@pytest.mark.parametrize("reason, module, ci, code", [
    ("one target is enough", "", "true", 0), ("I do not feel like it", "", "true", 1),
    ("I do not feel like it", "", "", 0), ("one target is enough", "pytest.importorskip('no_such_package')", "1", 1)])
def test_a_run_of_ci_fails(tmp_path, reason, module, ci, code):
    """pytest itself, on a file of its own, without this folder's settings."""
    (tmp_path / "test_it.py").write_text(TESTS.format(reason=reason, module=module))
    (tmp_path / "test_other.py").write_text("def test_runs():\n    pass\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "tests.skips", "-p", "no:cacheprovider",
                           "--rootdir", str(tmp_path), str(tmp_path)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""})
    assert done.returncode == code, done.stdout
    reported = "skipped for a reason that tests/skips.py does not name" in done.stdout
    assert reported == ("feel" in reason or bool(module))
