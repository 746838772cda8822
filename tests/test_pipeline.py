"""The same batches, in the same order, through tf.data; resumed, sharded, and when a file breaks."""
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

from Datagenerator.dataset import SubjectSequence
from Datagenerator.loading.epoch import Shard
from Datagenerator.loading.pipeline import make_pipeline
from tests.test_dataset import config, write_subjects


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_subjects(tmp_path_factory.mktemp("subjects"))


def as_numpy(batches):
    return [(x.numpy(), y.numpy()) for x, y in batches]


def same(batches, others):
    return len(batches) == len(others) and all(
        x.dtype == a.dtype == np.float32 and (x == a).all() and (y == b).all()
        for (x, y), (a, b) in zip(batches, others))


@pytest.mark.parametrize("cache", ["none", "uint8"])
@pytest.mark.parametrize("more", [{}, dict(as_published=True), dict(last_batch="drop", repeats=2)])
@pytest.mark.parametrize("workers", [1, 4])
def test_equals_the_sequence_bit_for_bit(folder, cache, more, workers):
    sequence = SubjectSequence(folder, config(cache=cache, **more))
    for epoch in (0, 1):
        pipeline = make_pipeline(sequence, epoch, workers=workers)
        wanted = [sequence.batch(epoch, index) for index in range(len(sequence))]
        assert len(pipeline) == len(sequence)
        assert same(as_numpy(pipeline), wanted)
        assert same(as_numpy(pipeline), wanted)     # iterated a second time


def test_goes_on_in_mid_epoch(folder):
    sequence = SubjectSequence(folder, config())
    whole = as_numpy(make_pipeline(sequence, 4))
    for start in (1, 7, len(sequence) - 1, len(sequence)):
        fresh = SubjectSequence(folder, config())
        assert same(as_numpy(make_pipeline(fresh, 4, start)), whole[start:])
    for start in (-1, len(sequence) + 1):
        with pytest.raises(ValueError, match=f"^start_batch must be from 0 to {len(sequence)}, got {start}$"):
            make_pipeline(sequence, 4, start)


def test_kept_batches_are_not_written_over(folder):
    """Batches share a pool of buffers; holding all of an epoch must not change one of them."""
    sequence = SubjectSequence(folder, config())
    kept = list(make_pipeline(sequence, 0, workers=4))
    for _ in make_pipeline(sequence, 1, workers=4):
        pass
    assert same(as_numpy(kept), [sequence.batch(0, index) for index in range(len(sequence))])


def test_an_abandoned_epoch_leaves_nothing_behind(folder):
    sequence = SubjectSequence(folder, config())
    for _ in range(5):
        for x, _ in make_pipeline(sequence, 0):
            break
    assert same(as_numpy(make_pipeline(sequence, 0)), [sequence.batch(0, index) for index in range(len(sequence))])


def test_python_exits_cleanly_with_batches_under_way(folder):
    """TensorFlow's threads must not call into a Python that goes down: that aborts, whatever the exit code was."""
    program = ("import sys; from Datagenerator.dataset import DataConfig, SubjectSequence\n"
               "from Datagenerator.loading.pipeline import make_pipeline\n"
               "config = DataConfig(images=3, batch_size=4, image_size=16, points=20, repeats=500, cache='none')\n"
               f"batches = iter(make_pipeline(SubjectSequence({str(folder)!r}, config), 0, workers=4, prefetch=1000))\n"
               "next(batches)\n"
               "sys.exit(7)\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120,
                          cwd=Path(__file__).parents[1])
    assert done.returncode == 7, done.stderr[-2000:]


def test_workers_of_a_cluster_see_parts_of_the_same_batches(folder):
    sequence = SubjectSequence(folder, config(seed=3))       # 50 samples: the last batch has 2
    parts = [as_numpy(make_pipeline(SubjectSequence(folder, config(seed=3)), 2, shard=(index, 2)))
             for index in range(2)]
    joined = [tuple(np.concatenate(pair) for pair in zip(a, b)) for a, b in zip(*parts)]
    assert same(joined, as_numpy(make_pipeline(sequence, 2)))


def test_what_cannot_be_shared_out_equally_is_left_out(folder):
    sequence = SubjectSequence(folder, config())
    lengths = [[len(x) for x, _ in make_pipeline(sequence, 0, shard=(index, 4))] for index in range(4)]
    assert lengths == [[1] * 12] * 4                         # the last batch of 2 has nothing for 4 workers
    assert [len(x) for x, _ in make_pipeline(sequence, 0, shard=(0, 1, 4))] == [4] * 12
    assert len(make_pipeline(sequence, 0, start_batch=13, shard=(0, 4))) == 0


@pytest.mark.parametrize("shard, message", [
    ((0, 3), "^batch_size must divide by 3 workers x 1 replicas, got 4$"),
    ((2, 2), r"^a shard is \(index, count, replicas\) .*, got \(2, 2, 1\)$"),
    ((0, 2, 4), "^batch_size must divide by 2 workers x 4 replicas, got 4$")])
def test_bad_shards(folder, shard, message):
    with pytest.raises(ValueError, match=message):
        make_pipeline(SubjectSequence(folder, config()), 0, shard=shard)


@pytest.mark.parametrize("more", [dict(workers=0), dict(prefetch=-1)])
def test_bad_numbers(folder, more):
    with pytest.raises(ValueError, match="^workers must be at least 1 and prefetch at least 0"):
        make_pipeline(SubjectSequence(folder, config()), 0, **more)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_broken_file_is_one_line(tmp_path, workers):
    write_subjects(tmp_path, counts=(3, 3))
    (tmp_path / "P01" / "002.jpg").write_bytes(b"")
    pipeline = make_pipeline(SubjectSequence(tmp_path, config(batch_size=1)), 0, workers=workers)
    with pytest.raises(ValueError, match=r"P01/002\.jpg: ") as caught:
        list(pipeline)
    assert "\n" not in str(caught.value)


def test_tensorflow_knows_the_shapes(folder):
    x, y = make_pipeline(SubjectSequence(folder, config()), 0).dataset.element_spec
    assert x.shape.as_list() == [None, 3, 16, 16, 3] and y.shape.as_list() == [None, 20, 3]
    assert x.dtype == y.dtype == tf.float32


def test_a_strategy_takes_the_dataset_as_it_is(folder):
    """tf.distribute would shard by file or by data; the batches are cut already."""
    sequence = SubjectSequence(folder, config())
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    batches = strategy.experimental_distribute_dataset(make_pipeline(sequence, 0).dataset)
    assert same(as_numpy(batches), [sequence.batch(0, index) for index in range(len(sequence))])


@pytest.mark.parametrize("size", [64, 256])
def test_integer_accurate_is_opencvs_jpeg(tmp_path, size):
    """What this file says of TensorFlow's decoder: equal pixels with INTEGER_ACCURATE, and not without it."""
    write_subjects(tmp_path, counts=(4,), size=size)
    differs = 0
    for path in (tmp_path / "P00").glob("*.jpg"):
        data, wanted = path.read_bytes(), cv2.imread(str(path))
        exact = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()[..., ::-1]
        fast = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_FAST").numpy()[..., ::-1]
        assert (exact == wanted).all()
        differs = max(differs, int(np.abs(fast.astype(int) - wanted).max()))
    assert 0 < differs <= 20


def test_shard_is_a_named_tuple():
    assert Shard() == (0, 1, 1)
