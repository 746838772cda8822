"""For every test."""
import os
import sys
from collections.abc import Iterator

import pytest

pytest_plugins = ["tests.durations", "tests.skips"]       # order of files; an unexpected skip fails CI

# The tests are of TensorFlow and of Keras's own defaults, whatever this user's shell and ~/.keras/keras.json say. This
# comes before the first import of Keras, and holds in the processes that tests start.
os.environ.pop("KERAS_BACKEND", None)
os.environ.pop("TF_CONFIG", None)
os.environ["KERAS_HOME"] = os.devnull       # no folder: nothing is read from it or written to it


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """A training in this process sets Keras's precision, also for the tests that come after it."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a test puts into the environment goes with it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
