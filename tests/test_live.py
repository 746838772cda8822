"""Datagenerator/online/live.py: subjects rendered meanwhile give the batches that shards of them give, in any order."""
import csv
import dataclasses
import json
import multiprocessing
import os
import pickle
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from Datagenerator.online.live import TEST_SEED, LiveConfig, LiveSubjects, open_live
from Datagenerator.sequences.keypoints import ShardConfig, ShardSequence, targets_on_template
from Datagenerator.source import data_config, open_source
from Dataset.face_model.model import load_face_model
from Dataset.io.workers import WorkerDied
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from tests import forkserver

CONFIG = LiveConfig(max_images=2, batch_images=4, batches=3, validation_subjects=2, image_size=32, points=256, seed=5,
                    reuse=2, window=4, images=2, size=32, detect=0.0)


@pytest.fixture(scope="module")
def live():
    training, validation = open_live(CONFIG, 1)
    yield training, validation
    training.shards.close()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "subjects"
    make_shards(path, dataclasses.replace(CONFIG.rendering(), subjects=16))
    return open_shards(path)


def _same(a, b):
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1].keys() == b[1].keys()
    for key in a[1]:
        np.testing.assert_array_equal(a[1][key], b[1][key])


def test_the_window_moves_as_fast_as_subjects_are_used_up():
    config = LiveConfig(reuse=8, window=256)        # 64 images, T 1 to 8: 172 subjects in 8 batches
    assert config.subjects(0, 0) == range(128, 384)
    assert config.subjects(0, 8).start == 128 + 172 // 8 and config.subjects(0, 64).start == 128 + 172
    assert config.subjects(2, 3) == config.subjects(0, 2 * config.batches + 3)
    starts = [config.subjects(0, index).start for index in range(250)]
    assert starts == sorted(starts) and min(starts) >= config.validation_subjects


def test_each_new_subject_stands_in_about_as_many_batches_as_asked():
    config = dataclasses.replace(CONFIG, batch_images=8, reuse=3, window=16, batches=100)
    sequence = _Moving(SimpleNamespace(path="none", size=32, images=2), np.arange(16), config, None, True)
    uses = np.zeros(10_000, int)
    for index in range(1000):
        subjects = sequence.draw(0, index)[0]
        assert len(set(subjects)) == len(subjects)
        uses[subjects] += 1
    assert not uses[:config.validation_subjects].any()
    met = uses[config.subjects(0, 0).stop:config.subjects(0, 1000).start]
    assert len(met) > 1900 and abs(met.mean() - 3) < 0.05


class _Moving(ShardSequence):
    """The subjects of live batches, wherever their images are."""

    def pool(self, epoch, index):
        return np.asarray(self.config.subjects(epoch, index))


def test_batches_are_those_of_shards_of_the_same_subjects(live, shards):
    targets = targets_on_template(CONFIG.points, load_face_model())
    stored = _Moving(shards, np.arange(4), CONFIG, targets, True)
    for batch_index in ((1, 1), (0, 0), (0, 2)):          # in no order
        _same(live[0].batch(*batch_index), stored.batch(*batch_index))
    held_out = ShardSequence(shards, np.arange(2), CONFIG, targets, False)
    assert len(live[1]) == len(held_out)
    for index in range(len(held_out)):
        _same(live[1].batch(0, index), held_out.batch(0, index))


def test_gather_is_that_of_shards(live, shards):
    subjects, images = np.array([7, 0, 3, 0]), np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    for name in ("identity", "images", "pose", "visible"):
        assert live[0].shards.gather(name, subjects).tobytes() == shards.gather(name, subjects).tobytes()
    for some in (images, images[:, 0]):
        np.testing.assert_array_equal(live[0].shards.gather("images", subjects, some),
                                      shards.gather("images", subjects, some))
    empty = live[0].shards.gather("images", [], np.zeros((0, 2), int))
    assert empty.shape == (0, 2, 32, 32, 3) and empty.dtype == np.uint8
    for name, subjects, images, message in (("voxels", [0], None, "live: holds images, .* received voxels"),
                                            ("pose", [-1], None, "live: subjects are 0 and above, received -1"),
                                            ("pose", [0], [2], "live: images are 0 to 1, received 2 to 2")):
        with pytest.raises(ValueError, match=message):
            live[0].shards.gather(name, subjects, images)


def test_another_process_makes_the_same_batch(live):
    code = ("import pickle, sys; from Datagenerator.online.live import open_live; from tests.test_live import CONFIG\n"
            "if __name__ == '__main__':\n"
            "    training, _ = open_live(CONFIG, 2)\n"
            "    sys.stdout.buffer.write(pickle.dumps(training.batch(1, 2))); training.shards.close()")
    done = forkserver.run("-c", code, text=False)
    assert done.returncode == 0, done.stderr[-1000:]
    _same(pickle.loads(done.stdout), live[0].batch(1, 2))


def test_memory_is_bounded_and_who_was_dropped_comes_back_the_same():
    subjects = LiveSubjects(RenderOptions(images=1, size=16, seed=5, detect=0.0), held_out=2, keep=3, workers=1)
    try:
        first = subjects.gather("images", range(8))       # more at a time than are kept
        assert list(subjects._subjects) == [5, 6, 7] and list(subjects._held) == [0, 1]
        subjects.prefetch([8, 9, 6])
        _wait(lambda: not subjects._ahead and not subjects._under_way)
        assert set(subjects._subjects) == {6, 8, 9}         # 6 was wanted again, 5 and 7 were not
        assert subjects.gather("images", range(8)).tobytes() == first.tobytes()
    finally:
        subjects.close()


def test_rendering_goes_ahead_of_the_batches(live):
    training = live[0]
    training.batch(5, 0)
    window = CONFIG.subjects(5, 0)
    _wait(lambda: not training.shards._ahead and not training.shards._under_way)
    assert set(range(window.start, window.stop + 2)) <= set(training.shards._subjects)


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_a_killed_process_is_an_error_now_and_later():
    before = set(multiprocessing.active_children())
    subjects = LiveSubjects(RenderOptions(images=1, size=16, detect=0.0), held_out=0, keep=50, workers=1)
    child, = set(multiprocessing.active_children()) - before
    subjects.gather("pose", [0])
    subjects.prefetch(range(1, 50))
    os.kill(child.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(WorkerDied, match="ended with code -9"):
            subjects.gather("pose", range(40))
    subjects.close()
    subjects.prefetch([98])
    with pytest.raises(RuntimeError, match="live: is closed"):
        subjects.gather("pose", [99])


@pytest.mark.parametrize("change, message", [
    ({"reuse": 0}, "reuse must be at least 1, got 0"), ({"window": 3}, "window must be at least 4, the subjects of a"),
    ({"yaw": 91.0}, "--yaw must be within 0 to 90"), ({"batch_images": 0}, "batch_images must be at least 1"),
    ({"seed": TEST_SEED}, "seed 9001 makes the subjects that networks are evaluated on")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_images_that_do_not_suit_the_network_end_the_processes():
    before = set(multiprocessing.active_children())
    with pytest.raises(ValueError, match="live: holds images of 32 px, which must be a multiple of image_size 24"):
        open_live(dataclasses.replace(CONFIG, image_size=24), 1)
    with pytest.raises(ValueError, match="workers must be within 1 to 256, got 0"):
        open_live(CONFIG, 0)
    assert set(multiprocessing.active_children()) == before


def test_every_setting_of_the_rendering_is_there_with_its_default():
    rendering = {field.name: field.default for field in dataclasses.fields(RenderOptions)}
    here = {field.name: field.default for field in dataclasses.fields(LiveConfig) if field.name in rendering}
    assert here == {name: value for name, value in rendering.items() if name not in ("subjects", "buffers")}


def test_source(shards):
    with open_source("live", "train-test", CONFIG, 1) as source:
        assert source.about["subjects"] == {"validation": "numbers below 2", "training": "without end"}
        stored = open_source(shards.path, "train-test", ShardConfig(**_fields(ShardConfig)))
        assert source.about["shards"] == stored.about["shards"] and source.model == stored.model
        np.testing.assert_array_equal(source.template, stored.template)
    assert not [child for child in multiprocessing.active_children() if child in source.live._workers._processes]
    assert data_config("keypoints", "live", {"reuse": 2}) is LiveConfig
    assert data_config("keypoints", "faces", {"batches": 2}) is ShardConfig
    with pytest.raises(ValueError, match="faces: reuse, yaw may be set for DATA live only"):
        data_config("keypoints", "faces", {"yaw": 2.0, "reuse": 2})
    with pytest.raises(ValueError, match="live: .* on the fly give keypoints, .*, this preset trains on points"):
        data_config("points", "live", {})
    with pytest.raises(ValueError, match="--workers render for DATA live only"):
        open_source(shards.path, "train-test", ShardConfig(**_fields(ShardConfig)), 2)


def _fields(config):
    return {field.name: getattr(CONFIG, field.name) for field in dataclasses.fields(config)}


def _wait(done, seconds=60):
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert done()


TRAIN = ["live", "--preset", "compact", "--workers", "1", "--quiet", "--deterministic", "--epochs", "2", "--seed", "5",
         "--batches", "5", "--batch-images", "4", "--max-images", "1", "--images", "1", "--validation-subjects", "2",
         "--window", "8", "--reuse", "2", "--size", "32", "--image-size", "32", "--detect", "0", "--encoder-filters",
         "8,8,12,16", "--encoder-blocks", "0,0,1,1", "--pyramid-filters", "12", "--appearance", "4", "--fine-filters",
         "6", "--refine-filters", "8", "--checkpoint-minutes", "0"]
WHOLE_THEN_KILLED = """
import os, signal, sys
import train
from Datagenerator.online.live import LiveSequence
words, batch = sys.argv[3:], LiveSequence.batch
train.main([*words, "--run", sys.argv[1]])
def killed(self, epoch, index, shard):
    if (epoch, index) == (1, 4):
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, epoch, index, shard)
LiveSequence.batch = killed
train.main([*words, "--run", sys.argv[2]])
"""


@pytest.mark.skipif(os.name == "nt", reason="no kill -9")
def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = forkserver.run("-c", WHOLE_THEN_KILLED, whole, broken, *TRAIN)
    assert done.returncode == -signal.SIGKILL and "2 epochs" in done.stdout, done.stderr[-1000:]
    assert len(_history(broken)) == 1
    done = forkserver.run("train.py", "live", "--run", broken, "--resume", "--workers", 2)
    assert done.returncode == 0, done.stderr[-1000:]
    assert _history(broken) == _history(whole)
    config = json.loads((broken / "config.json").read_text())
    assert config["shards"]["seed"] == 5 and config["data"]["reuse"] == 2 and config["data_folder"] == "live"
    assert config["subjects"] == {"validation": "numbers below 2", "training": "without end"}


def _history(run):
    """Its rows without what tells the time."""
    with open(run / "history.csv", newline="") as file:
        return [{name: value for name, value in row.items() if name not in ("seconds", "cpu_seconds", "waiting_share")}
                for row in csv.DictReader(file)]
