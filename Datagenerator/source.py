"""A data folder of either kind, subject folders or shards -> what a training needs of it."""
from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import cv2
import numpy as np

from Datagenerator.dataset import DataConfig, SubjectSequence
from Datagenerator.shard_dataset import ShardConfig, ShardSequence, Truths, make_sequences
from Dataset.face_model import load_face_model
from Dataset.images import minmax
from Dataset.renders import RenderOptions
from Dataset.shards import INFO, open_shards
from Dataset.subjects import dataset_info, subjects_of

#: network -> the config of the generator that feeds it
DATA_CONFIGS: dict[str, type] = {"convlstm": DataConfig, "compact": ShardConfig}


class Source(NamedTuple):
    """training, validation: sequences for `pipeline.make_pipeline`; template: the training people's mean truth (N, 3);
    about: order of the points, who trains and on what, for config.json: a resumed run must find the same; model:
    settings of the network that the data decide."""

    training: SubjectSequence | ShardSequence
    validation: SubjectSequence | ShardSequence
    template: np.ndarray
    about: dict[str, Any]
    model: dict[str, Any]


def open_source(folder: str | Path, split: str, data: DataConfig | ShardConfig) -> Source:
    """ValueError, one line, when the folder is of the other kind or does not suit the config."""
    if isinstance(data, ShardConfig):
        shards = open_shards(folder, partial=True)
        training, validation = make_sequences(shards, data)
        about = {"order": "grid", "people": {"validation": f"numbers below {data.validation_people}"},
                 "shards": shards_of(shards.settings)}
        return Source(training, validation, training.truths.template, about, {"crop_margin": shards.settings.margin})
    if (Path(folder) / INFO).is_file():
        raise ValueError(f"{folder}: holds shards, this preset trains on subject folders (python -m Dataset.synthetic)")
    groups = subjects_of(folder, split)
    training = SubjectSequence(groups["training"], data)
    validation = SubjectSequence(groups["validation"], dataclasses.replace(data, seed=data.seed + 1,
                                                                           as_published=False))
    names = {use: [subject.name for subject in group] for use, group in groups.items()}
    return Source(training, validation, training.mean_truth(),
                  {"order": dataset_info(folder).order, "people": names}, {})


def shards_of(settings: RenderOptions) -> dict[str, Any]:
    """What tells one folder of shards from another, but for how many people it holds: it may grow in training."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(settings).items() if k != "people"}


class People(NamedTuple):
    """Shards to be judged on: `images(p)` gives person p's pictures (T, S, S, 3) float32 as a network takes them;
    `count` is T; `truths` (P, N, 3) float32 neutral grids in the unit sphere, each brought onto `constant` (N, 3), the
    built-in mean face, by a similarity, as in training; `digest` (hex) of who they are; `seed` of the shards."""

    images: Callable[[int], np.ndarray]
    count: int
    truths: np.ndarray
    constant: np.ndarray
    digest: str
    seed: int


def people_of(folder: str | Path, size: int, points: int) -> People:
    """Everybody in a folder of shards. ValueError when it is unfinished or holds pictures of another size."""
    shards = open_shards(folder)
    if shards.size != size:
        raise ValueError(f"{folder}: holds pictures of {shards.size} px, the model takes {size}")
    everybody = np.arange(len(shards))
    identity = shards.gather("identity", everybody)
    truths = Truths(load_face_model(), points)
    constant = truths.make_template(np.zeros_like(identity[:1]))

    def images(person: int) -> np.ndarray:
        return np.stack([minmax(image) for image in shards.gather("images", [person])[0]])
    digest = hashlib.sha256(np.ascontiguousarray(identity).tobytes()).hexdigest()
    return People(images, shards.images, truths(identity), constant, digest, shards.settings.seed)


def subject_samples(folder: str | Path, people: str, split: str, data: DataConfig, margin: float = 1.0
                    ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """(images (B, T, S, S, 3), truths (B, N, 3), names) of one epoch over a part of the people of subject folders.

    margin  a network that was trained on grown boxes gets these crops, of the detector's own box, with their rim
            repeated: the face has its size again, what lies beyond the crop is lost
    """
    sequence = SubjectSequence(subjects_of(folder, split)[people], data)
    for index in range(len(sequence)):
        images, truths = sequence.batch(0, index)
        yield (images if margin == 1 else _widened(images, margin)), truths, sequence.names(0, index)


def _widened(images: np.ndarray, margin: float) -> np.ndarray:
    """(B, T, S, S, 3) float32 with a rim of repeated pixels, scaled back to S."""
    size = images.shape[2]
    rim = round(size * (margin - 1) / 2)
    wide = [cv2.copyMakeBorder(image, rim, rim, rim, rim, cv2.BORDER_REPLICATE) for row in images for image in row]
    small = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in wide]
    return np.stack(small).reshape(images.shape)
