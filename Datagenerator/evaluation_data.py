"""Data of which a trained model is evaluated: the settings of its run, and maps beside images."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Iterator, Protocol

import numpy as np

from Datagenerator.dataset import DataConfig
from Datagenerator.sequences.coefficients import iteration_samples
from Datagenerator.sequences.depth_pairs import PairConfig, PairSequence
from Datagenerator.sequences.maps import DepthConfig, MapSequence, maps_of
from Datagenerator.sequences.volumes import VolumeConfig, VolumeSequence
from Datagenerator.source import subject_samples
from Dataset.face_model.model import load_face_model
from Dataset.representations import points
from Dataset.sources.depth_pairs import pairs
from Dataset.sources.subjects import dataset_info, has_split, list_subjects
from Dataset.synthesis.shards import INFO, Shards, open_shards

__all__ = ["dense_targets", "depths_of", "iteration_samples_of", "evaluation_config", "maps_of", "part_of",
           "predictions", "volumes_of"]
Batches = Callable[[], Iterator[tuple[np.ndarray, dict[str, Any]]]]
Solids = Callable[[], Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]]]
_BATCH = 16


def evaluation_config(trained: dict[str, Any], *, images: int | None, image_size: int, points: int, batch_size: int,
                      seed: int, as_published: bool) -> DataConfig:
    """How subject folders are read to evaluate a model: as in its training, by the run's config.json `trained`, but
    each subject once; with `as_published` as often as there.

    images   of a sample; None: as in training
    """
    data, margin = trained.get("data", {}), trained.get("model", {}).get("crop_margin", 1.0)
    return DataConfig(images=images or data.get("images", 8), batch_size=batch_size,
                      repeats=data.get("repeats", 5) if as_published else 1, seed=seed, image_size=image_size,
                      points=points, resize=data.get("resize", margin != 1),
                      normalisation=data.get("normalisation", "unit_sphere"), as_published=as_published)


def depths_of(folder: str | Path, size: int, images: int, scaling: str = "unit") -> Batches:
    """Batches (images (B, S, S, 3), {"depth": (B, S, S, 1)}) as a network is trained on, nothing changed: of shards the
    first `images` images of each subject, of photos with depth images those that test; where it is known how many mm
    an image shows from side to side, "side" says it, too.

    ValueError for more images than there are, and for a folder that is neither.
    """
    if (Path(folder) / INFO).is_file():
        shards = _with_images(folder, images)
        sequence: Any = MapSequence(shards, np.arange(len(shards)),
                                    DepthConfig(image_size=size, batch_size=_BATCH, jitter=False, scaling=scaling),
                                    training=False)
        count, scale = len(shards) * images, {}
    else:
        config = PairConfig(image_size=size, batch_size=1, scaling=scaling)
        sequence = PairSequence(pairs(folder, "test"), config, False)
        count, known = len(sequence), dataset_info(folder).settings
        scale = {"side": float(known["side"])} if "side" in known else {}

    def batches() -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        left, index = count, 0
        while left > 0:
            x, y = sequence.batch(0, index)
            yield x[:left], {"depth": y["depth"][:left], **scale}       # of the last batch, what is not taken again
            left, index = left - len(x), index + 1
    return batches


def volumes_of(folder: str | Path, size: int, layers: int, images: int) -> Solids:
    """Batches (images (B, S, S, 3), (volumes (B, S, S, D), faces (B, 16384, 3), landmarks (B, 68, 3))) of all subjects'
    first `images` images in a folder of shards; the face that an image shows, hidden parts too, and its landmarks,
    in voxel coordinates. ValueError for what is none, and for more images than there are."""
    shards, model = _with_images(folder, images), load_face_model()
    config = VolumeConfig(image_size=size, layers=layers)
    sequence = VolumeSequence(shards, np.arange(len(shards)), config, training=False)

    def batches() -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        for image in range(images):
            for first in range(0, len(shards), _BATCH):
                subjects = np.arange(first, min(first + _BATCH, len(shards)))
                x, y = sequence.of(subjects, np.full(len(subjects), image))
                heads = [sequence.head(subject, image) for subject in subjects]
                faces = [frame.voxels(points.encode(head, model=model).reshape(-1, 3)) for head, frame in heads]
                landmarks = [frame.voxels(model.landmarks(head)) for head, frame in heads]
                yield x, (y["volume"], np.stack(faces), np.stack(landmarks))
    return batches


def _with_images(folder: str | Path, images: int) -> Shards:
    """Shards with at least `images` images of each subject. ValueError for others."""
    shards = open_shards(folder)
    if not 1 <= images <= shards.images:
        raise ValueError(f"--images must be 1 to {shards.images}, the images of a subject, got {images}")
    return shards


def iteration_samples_of(folder: str | Path, size: int, images: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`iteration_samples` of the subjects' first `images` images in a folder of shards. ValueError for what is none."""
    shards = open_shards(folder)
    return iteration_samples(shards, size, len(shards), images)


def dense_targets(kind: str, folder: str | Path, size: int, images: int, scaling: str, layers: int
                  ) -> Callable[[], Any]:
    """Batches of network inputs and true `uv` maps, `depth` maps or `volume`s (of so many layers) of the first
    `images` images of every subject, at each call. ValueError for another kind, or a folder without shards."""
    if kind == "volume":
        return volumes_of(folder, size, layers, images)
    known = {"uv": maps_of, "depth": depths_of}
    if kind not in known:
        raise ValueError(f"kind must be one of {', '.join((*known, 'volume'))}, got {kind!r}")
    return known[kind](folder, size, images, scaling)


def part_of(folder: str | Path, wanted: str | None, trained: dict[str, Any]) -> str:
    """Which subjects of subject folders are evaluated: `wanted`; None: "test" where split.json or the folders Training
    and Testing name them, or where the model of the config `trained` was trained on subjects of these names; else
    "all": a folder that is a test set as a whole, as the thesis's Testing."""
    if wanted is not None:
        return wanted
    known = set(trained.get("subjects", {}).get("training", ()))
    seen = known & {subject.name for subject in list_subjects(folder)}
    return "test" if has_split(folder) or seen else "all"


class System(Protocol):
    """A `Network.inference.base.Predictor`. config: the run's config.json; size: px of its input; points: N; images: a
    fixed number of a subject's images, or None; predict: inputs (B, T, S, S, 3) -> (B, N, 3)."""

    config: dict[str, Any]
    size: int
    points: int
    images: int | None
    predict: Callable[[np.ndarray], np.ndarray]


def predictions(system: System, folder: str | Path, subjects: str, draw: Callable[..., None] | None = None, *,
                images: int | None, batch_size: int, seed: int, as_published: bool) -> Iterator[tuple]:
    """(predictions (B, N, 3), targets (B, N, 3), names) of one epoch over a part of the subjects of subject folders,
    read as `evaluation_config` has it. draw: called with images, predictions, targets and names."""
    data = evaluation_config(system.config, images=images or system.images, image_size=system.size,
                             points=system.points, batch_size=batch_size, seed=seed, as_published=as_published)
    split, margin = (system.config.get(part, {}).get(name, other) for part, name, other in (
        ("settings", "split", "train-test"), ("model", "crop_margin", 1.0)))
    for inputs, targets, names in subject_samples(folder, subjects, split, data, margin):
        clouds = system.predict(inputs)
        if draw:
            draw(inputs, clouds, targets, names)
        yield clouds, targets, names
