"""The most memory that a piece of a test took."""
import re
from pathlib import Path

import pytest


def peak() -> int:
    """Bytes that this process has had in memory at most since `clear_peak`."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def clear_peak() -> int:
    """-> `peak` from now on. Where a system does not tell it the test is skipped."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not tell the peak of memory")
    return peak()
