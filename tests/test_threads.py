"""The same batches, in the same order, by plain threads: what make_pipeline gives where Keras runs on JAX."""
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from Datagenerator.dataset import SubjectSequence
from Datagenerator.loading import pipeline as module
from Datagenerator.loading.pipeline import make_pipeline
from Datagenerator.loading.threads import ThreadPipeline
from tests.test_dataset import config, write_subjects


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_subjects(tmp_path_factory.mktemp("subjects"))


@pytest.fixture(autouse=True)
def jax(monkeypatch):
    monkeypatch.setattr(module.keras.backend, "backend", lambda: "jax")


def same(batches, others):
    return len(batches) == len(others) and all(
        x.dtype == a.dtype == np.float32 and (x == a).all() and (y == b).all()
        for (x, y), (a, b) in zip(batches, others))


@pytest.mark.parametrize("cache", ["none", "uint8"])
@pytest.mark.parametrize("workers, prefetch", [(1, 0), (1, 2), (4, 0), (4, 3)])
def test_equals_the_sequence_bit_for_bit(folder, cache, workers, prefetch):
    sequence = SubjectSequence(folder, config(cache=cache))
    for epoch in (0, 1):
        pipeline = make_pipeline(sequence, epoch, workers=workers, prefetch=prefetch)
        wanted = [sequence.batch(epoch, index) for index in range(len(sequence))]
        assert isinstance(pipeline, ThreadPipeline) and len(pipeline) == len(sequence)
        assert same(list(pipeline), wanted)         # kept: buffers in use are not written over
        assert same(list(pipeline), wanted)         # iterated a second time


def test_goes_on_in_mid_epoch_and_in_parts(folder):
    sequence = SubjectSequence(folder, config())
    whole = list(make_pipeline(sequence, 4))
    for start in (1, 7, len(sequence) - 1, len(sequence)):
        assert same(list(make_pipeline(sequence, 4, start)), whole[start:])
    with pytest.raises(ValueError, match=f"^start_batch must be from 0 to {len(sequence)}, got -1$"):
        make_pipeline(sequence, 4, -1)
    parts = [list(make_pipeline(sequence, 4, shard=(index, 2))) for index in range(2)]
    assert same([tuple(np.concatenate(pair) for pair in zip(a, b)) for a, b in zip(*parts)], whole)


def test_slow_batches_keep_their_order():
    def load(index):
        time.sleep(0.02 if index % 3 == 0 else 0)
        return index, -index
    assert list(ThreadPipeline(load, 2, 20, 4, 2)) == [(i, -i) for i in range(2, 20)]


def test_no_more_is_made_ahead_than_asked_for():
    begun = []
    batches = iter(ThreadPipeline(lambda index: (begun.append(index), None), 0, 100, 2, 3))
    for count in range(1, 10):
        next(batches)
        assert len(begun) <= count + 4      # workers + prefetch in all, of which one was handed out


@pytest.mark.parametrize("workers", [1, 3])
def test_a_broken_file_is_one_line_at_its_place(tmp_path, workers):
    write_subjects(tmp_path, counts=(3, 3))
    (tmp_path / "P01" / "002.jpg").write_bytes(b"")
    sequence = SubjectSequence(tmp_path, config(batch_size=1))
    subjects = [sequence.names(0, index)[0] for index in range(len(sequence))]
    seen = []
    with pytest.raises(ValueError, match=r"P01/002\.jpg: ") as caught:
        for batch in make_pipeline(sequence, 0, workers=workers):
            seen.append(batch)
    assert "\n" not in str(caught.value)
    assert len(seen) == subjects.index("P01")


def test_an_abandoned_epoch_leaves_no_thread_behind(folder):
    sequence = SubjectSequence(folder, config())
    for _ in range(5):
        for _ in make_pipeline(sequence, 0, workers=3):
            break
    left = [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
    for thread in left:
        thread.join(20)
    assert not any(thread.is_alive() for thread in left)


def test_python_exits_cleanly_with_batches_under_way(folder):
    program = ("import sys; sys.modules['tensorflow'] = None\n"
               "from Datagenerator.dataset import DataConfig, SubjectSequence\n"
               "from Datagenerator.loading.pipeline import make_pipeline\n"
               "config = DataConfig(images=3, batch_size=4, image_size=16, points=20, repeats=500, cache='none')\n"
               f"batches = iter(make_pipeline(SubjectSequence({str(folder)!r}, config), 0, workers=4, prefetch=100))\n"
               "next(batches)\n"
               "sys.exit(7)\n")
    pytest.importorskip("jax", reason="jax is not installed")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120,
                          cwd=Path(__file__).parents[1], env={**os.environ, "KERAS_BACKEND": "jax"})
    assert done.returncode == 7, done.stderr[-2000:]
