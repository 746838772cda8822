"""Datagenerator/online/live_maps.py: subjects rendered meanwhile give the batches of their shards, in any order."""
import csv
import dataclasses
import json
import multiprocessing
import pickle

import numpy as np
import pytest

import train
from Datagenerator.online.live import TEST_SEED
from Datagenerator.online.live_maps import LiveDepthConfig, LiveMapConfig, LiveMapSequence, open_live_maps
from Datagenerator.sequences.depth_pairs import PairConfig
from Datagenerator.sequences.maps import DepthConfig, MapConfig, MapSequence
from Datagenerator.source import data_config, open_source
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards
from tests import forkserver

CONFIG = LiveMapConfig(batch_size=3, batches=4, validation_subjects=2, image_size=32, seed=6, reuse=2, window=5,
                       images=2, detect=0.0, faces_in_image=2, empty=0.3)
DEPTH = LiveDepthConfig(batch_size=2, batches=4, validation_subjects=2, image_size=32, seed=6, reuse=2, window=5,
                        images=2, detect=0.0, empty=0.5)


@pytest.fixture(scope="module", params=[CONFIG, DEPTH], ids=["uv", "depth"])
def live(request):
    training, validation = open_live_maps(request.param, 1)
    yield training, validation
    training.shards.close()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "subjects"
    options = dataclasses.replace(CONFIG.rendering(), subjects=20, buffers=("uv", "mask", "visible_mask", "depth"))
    make_shards(path, options)
    return open_shards(path)


def same(a, b):
    np.testing.assert_array_equal(a[0], b[0])
    assert a[1].keys() == b[1].keys()
    for key in a[1]:
        np.testing.assert_array_equal(a[1][key], b[1][key])


class Moving(MapSequence):
    """The slow twin: the subjects of live batches, drawn from the window itself, wherever their images are."""

    def draw(self, epoch, index):
        self.subjects = np.asarray(self.config.subjects(epoch, index))
        return super().draw(epoch, index)


def test_batches_are_those_of_shards_of_the_same_subjects(live, shards):
    training, validation = live
    stored = Moving(shards, np.arange(5), training.config, True)
    for batch_index in ((1, 1), (0, 0), (0, 3)):          # in no order
        same(training.batch(*batch_index), stored.batch(*batch_index))
    held_out = MapSequence(shards, np.arange(2), training.config, False)
    assert len(validation) == len(held_out) and len(training) == 4
    for index in range(len(held_out)):
        same(validation.batch(0, index), held_out.batch(0, index))


def test_another_process_makes_the_same_batch(live):
    if live[0].config is not CONFIG:
        pytest.skip("one target is enough")
    code = ("import pickle, sys; from Datagenerator.online.live_maps import open_live_maps\n"
            "from tests import test_live_maps\n"
            "if __name__ == '__main__':\n"
            "    training, _ = open_live_maps(test_live_maps.CONFIG, 2)\n"
            "    sys.stdout.buffer.write(pickle.dumps(training.batch(1, 2))); training.shards.close()")
    done = forkserver.run("-c", code, text=False)
    assert done.returncode == 0, done.stderr[-1000:]
    same(pickle.loads(done.stdout), live[0].batch(1, 2))


def test_a_batch_asks_for_its_subjects_at_once_and_for_the_next_ones(live):
    training = live[0]
    asked = []
    training.shards, real = Asked(training.shards, asked), training.shards
    try:
        training.batch(0, 1)
    finally:
        training.shards = real
    window = training.config.subjects(0, 1)
    assert asked[0] == [*window, *range(window.stop, window.stop + 2), 0, 1]
    assert asked[1] == sorted(set(asked[1])) and set(asked[1]) <= set(window)
    shown = training.draw(0, 1).subjects
    # DEPTH augments nothing: nobody lends shapes and colours
    assert asked[1] == np.unique(shown if training.config is CONFIG else shown[:, 0]).tolist()


class Asked:
    """Subjects, and a note of whom a batch asks for first."""

    def __init__(self, subjects, asked):
        self._subjects, self._asked = subjects, asked

    def prefetch(self, subjects):
        self._asked.append(list(subjects))
        self._subjects.prefetch(subjects)

    def gather(self, name, subjects, images=None):
        self._asked.append(list(subjects))
        return self._subjects.gather(name, subjects, images)

    def __getattr__(self, name):
        return getattr(self._subjects, name)


def test_each_new_subject_is_shown_in_about_as_many_batches_as_asked(shards):
    config = dataclasses.replace(CONFIG, reuse=4, window=16, batches=100)
    sequence = LiveMapSequence(shards, np.arange(16), config, True)
    uses = np.zeros(2000, int)
    for index in range(1000):
        shown = sequence.draw(0, index).subjects[:, 0]
        assert len(set(shown)) == len(shown)
        uses[shown] += 1
    assert not uses[:config.validation_subjects].any()
    met = uses[config.subjects(0, 0).stop:config.subjects(0, 1000).start]
    assert len(met) > 700 and abs(met.mean() - 4) < 0.05


def test_defaults_are_those_of_shards_and_of_the_rendering():
    for live, stored in ((LiveMapConfig, MapConfig), (LiveDepthConfig, DepthConfig)):
        assert {f.name: getattr(live(), f.name) for f in dataclasses.fields(stored)} == dataclasses.asdict(stored())
        rendering = dataclasses.asdict(RenderOptions())
        kept = {name for name in rendering if name not in ("subjects", "buffers", "size")}
        assert {name: getattr(live(), name) for name in kept} == {name: rendering[name] for name in kept}
        assert live().rendering().size == stored().image_size and live(size=256).rendering().size == 256
    assert LiveMapConfig().rendering().buffers == ("uv", "mask", "visible_mask")
    assert LiveDepthConfig().rendering().buffers == ("depth", "visible_mask")
    assert LiveMapConfig(extras=("depth", "pose")).rendering().buffers == ("uv", "mask", "visible_mask", "depth")


@pytest.mark.parametrize("change, message", [
    ({"reuse": 0}, "reuse must be at least 1, got 0"), ({"window": 2}, "window must be at least 3, the subjects of a"),
    ({"size": 8}, "--size must be within 16 to 512"), ({"batch_size": 0}, "batch_size must be within 1 to 4096"),
    ({"seed": TEST_SEED}, "seed 9001 makes the subjects that networks are evaluated on")])
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_images_that_do_not_suit_the_network_end_the_processes():
    before = set(multiprocessing.active_children())
    with pytest.raises(ValueError, match="live: holds images of 48 px, which must be a multiple of image_size 32"):
        open_live_maps(dataclasses.replace(CONFIG, size=48), 1)
    assert set(multiprocessing.active_children()) == before


def test_source(shards, tmp_path):
    with open_source("live", "train-test", CONFIG, 1) as source:
        assert source.about["subjects"] == {"validation": "numbers below 2", "training": "without end"}
        assert source.about["shards"]["buffers"] == ["uv", "mask", "visible_mask"]
        assert source.template.shape == (128 * 128, 3) and source.model == {"crop_margin": 1.15}
    assert not [child for child in multiprocessing.active_children() if child in source.live._workers._processes]
    assert data_config("maps", "live", {"reuse": 2}) is LiveMapConfig
    assert data_config("depth", "live", {"yaw": 2.0}) is LiveDepthConfig
    assert data_config("maps", shards.path, {"batches": 2}) is MapConfig
    assert data_config("depth", shards.path, {"batches": 2}) is DepthConfig
    assert data_config("depth", tmp_path, {"batch_size": 2}) is PairConfig
    with pytest.raises(ValueError, match="reuse, yaw may be set for DATA live only"):
        data_config("maps", shards.path, {"yaw": 2.0, "reuse": 2})
    with pytest.raises(ValueError, match="batches, reuse may be set for shards only"):
        data_config("depth", tmp_path, {"batches": 2, "reuse": 2})


TRAIN = ["live", "--preset", "uvnet-small", "--workers", "1", "--quiet", "--deterministic", "--seed", "6",
         "--batches", "3", "--batch-size", "2", "--validation-subjects", "2", "--images", "2", "--window", "6",
         "--reuse", "2", "--image-size", "32", "--detect", "0", "--levels", "2", "--stem", "4", "--features", "4,6",
         "--up-features", "4,6", "--precision", "float32", "--checkpoint-minutes", "0"]


def test_a_training_goes_on(tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main([*TRAIN, "--run", str(run), "--epochs", "1"]) == 0
    assert train.main([*TRAIN, "--run", str(run), "--epochs", "2", "--resume", "--yaw", "20"]) == 2
    assert "was started with yaw = 90.0, not 20.0" in capsys.readouterr().err
    assert train.main([*TRAIN, "--run", str(run), "--epochs", "2", "--resume"]) == 0
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(0 <= float(row["waiting_share"]) <= 1 for row in rows)
    config = json.loads((run / "config.json").read_text())
    assert config["shards"]["seed"] == 6 and config["data"]["reuse"] == 2 and config["data_folder"] == "live"
    assert config["shards"]["size"] == 32 and config["model"]["crop_margin"] == 1.15
