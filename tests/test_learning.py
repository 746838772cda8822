"""The `quick` network learns: unseen subjects are nearer than the mean face, by their own images. Minutes long."""
from pathlib import Path

import numpy as np
import pytest

from Datagenerator.dataset import DataConfig, SubjectSequence
from Dataset.sources.subjects import subjects_of
from Network.inference.registry import predictor_of
from Network.training.loading import load_model
from tests.test_end_to_end import make_subjects, recipe, train_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> list[list[str]]:
    return recipe("demo", DEMO=tmp_path_factory.mktemp("subjects"))


@pytest.fixture(scope="module")
def subjects(commands) -> Path:
    """640 synthetic subjects, 4 frontal 64-pixel images of each. With 320 it depends on the machine's rounding whether
    anything is learnt: 0.97 of the mean face's error on one, 1.002 on another."""
    return make_subjects(commands[0], 640)


@pytest.fixture(scope="module")
def run(commands, subjects) -> Path:
    return train_run(commands[1], 20)


def errors(run: Path, subjects: Path, shuffled: bool = False) -> np.ndarray:
    """Mean squared error of each sample of subjects who neither trained nor chose the checkpoint.

    `shuffled`: each with another subject's images.
    """
    loaded = load_model(run)
    sequence = SubjectSequence(subjects_of(subjects, "train-validation-test")["test"],
                               DataConfig(images=2, batch_size=16, repeats=2, image_size=64, points=1024, seed=3))
    images, targets = (np.concatenate(parts) for parts in zip(*(sequence.batch(0, i) for i in range(len(sequence)))))
    names = np.array([name for i in range(len(sequence)) for name in sequence.names(0, i)])
    if shuffled:        # the next sample of another subject
        count = len(names)
        order = np.array([next(j % count for j in range(i + 1, i + count) if names[j % count] != names[i])
                          for i in range(count)])
        images = images[order]
    return ((predictor_of(loaded).predict(images) - targets) ** 2).mean((1, 2))


def test_unseen_subjects_beat_the_mean_face_and_their_own_images_matter(run, subjects):
    split = subjects_of(subjects, "train-validation-test")
    data = DataConfig(images=2, image_size=64, points=1024)
    mean = SubjectSequence(split["training"], data).mean_target()
    targets = SubjectSequence(split["test"], data)._targets
    baseline = ((targets - mean) ** 2).mean()
    own, others = errors(run, subjects).mean(), errors(run, subjects, shuffled=True).mean()
    assert own < 0.99 * baseline, (own, baseline)          # 0.973 with the first renders, 12 epochs
    assert others > 1.03 * own, (others, own)               # 1.069 with them
