"""A data folder of either kind, subject folders or shards -> what a training needs of it."""
from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import numpy as np

from Datagenerator.dataset import DataConfig, SubjectSequence
from Datagenerator.shard_dataset import ShardConfig, ShardSequence, Truths, make_sequences
from Dataset.face_model import load_face_model
from Dataset.images import minmax
from Dataset.shards import INFO, open_shards
from Dataset.subjects import dataset_info, subjects_of

#: network -> the config of the generator that feeds it
DATA_CONFIGS: dict[str, type] = {"convlstm": DataConfig, "compact": ShardConfig}


class Source(NamedTuple):
    """training, validation: sequences for `pipeline.make_pipeline`; template: the training people's mean truth (N, 3);
    about: order of the points and who trains, for config.json: a resumed run must find the same."""

    training: SubjectSequence | ShardSequence
    validation: SubjectSequence | ShardSequence
    template: np.ndarray
    about: dict[str, Any]


def open_source(folder: str | Path, split: str, data: DataConfig | ShardConfig) -> Source:
    """ValueError, one line, when the folder is of the other kind or does not suit the config."""
    if isinstance(data, ShardConfig):
        shards = open_shards(folder, partial=True)
        training, validation = make_sequences(shards, data)
        # the first people are held out and the rest trains, so that a folder may grow while it is trained on
        return Source(training, validation, training.truths.template,
                      {"order": "grid", "people": {"validation": [int(p) for p in validation.people[[0, -1]]]}})
    if (Path(folder) / INFO).is_file():
        raise ValueError(f"{folder}: holds shards, this preset trains on subject folders (python -m Dataset.synthetic)")
    groups = subjects_of(folder, split)
    training = SubjectSequence(groups["training"], data)
    validation = SubjectSequence(groups["validation"], dataclasses.replace(data, seed=data.seed + 1,
                                                                           as_published=False))
    names = {use: [subject.name for subject in group] for use, group in groups.items()}
    return Source(training, validation, training.mean_truth(),
                  {"order": dataset_info(folder).order, "people": names})


class People(NamedTuple):
    """Shards to be judged on: `images(p)` gives person p's pictures (T, S, S, 3) float32 as a network takes them,
    `truths` (P, N, 3) float32 mm neutral grids, `constant` (N, 3) the built-in mean face, `digest` (hex) of who they
    are."""

    images: Callable[[int], np.ndarray]
    truths: np.ndarray
    constant: np.ndarray
    digest: str


def people_of(folder: str | Path, size: int, points: int) -> People:
    """Everybody in a folder of shards. ValueError when it is unfinished or holds pictures of another size."""
    shards = open_shards(folder)
    if shards.size != size:
        raise ValueError(f"{folder}: holds pictures of {shards.size} px, the model takes {size}")
    everybody = np.arange(len(shards))
    identity = shards.gather("identity", everybody)
    truths = Truths(load_face_model(), points)

    def images(person: int) -> np.ndarray:
        return np.stack([minmax(image) for image in shards.gather("images", [person])[0]])
    digest = hashlib.sha256(np.ascontiguousarray(identity).tobytes()).hexdigest()
    return People(images, truths.raw(identity), truths.raw(np.zeros_like(identity[:1]))[0], digest)


def subject_samples(folder: str | Path, people: str, split: str, data: DataConfig
                    ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """(images (B, T, S, S, 3), truths (B, N, 3), names) of one epoch over a part of the people of subject folders."""
    sequence = SubjectSequence(subjects_of(folder, split)[people], data)
    for index in range(len(sequence)):
        yield (*sequence.batch(0, index), sequence.names(0, index))
