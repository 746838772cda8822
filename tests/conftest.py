"""For every test."""
import sys
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.skips"]       # an unexpected skip fails CI


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """A training in this process sets Keras's precision, also for the tests that come after it."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")
