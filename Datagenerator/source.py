"""DATA of a training (subject folders, shards, or subjects rendered on the fly) -> its sequences and settings."""
from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, NamedTuple

import cv2
import numpy as np

from Datagenerator.dataset import DataConfig, SubjectSequence
from Datagenerator.online.live import LiveConfig, LiveSubjects, Rendered, open_live
from Datagenerator.online.live_maps import LiveDepthConfig, LiveMapConfig, open_live_maps
from Datagenerator.sequences.coefficients import CoefficientConfig, CoefficientSequence, make_coefficient_sequences
from Datagenerator.sequences.depth_pairs import PairConfig, PairSequence, pair_sequences
from Datagenerator.sequences.keypoints import PointConfig, ShardConfig, ShardSequence, make_sequences
from Datagenerator.sequences.maps import DepthConfig, MapConfig, MapSequence, make_map_sequences
from Datagenerator.sequences.volumes import VolumeConfig, VolumeSequence, make_volume_sequences
from Dataset.attributes import image_attributes, subject_attributes
from Dataset.face_model.model import load_face_model
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.representations.depth import RANGE
from Dataset.representations.pncc import mean_code
from Dataset.representations.points import SIZE, encode, grid_landmarks
from Dataset.representations.targets import Targets
from Dataset.sources.subjects import dataset_info, list_subjects, subjects_of
from Dataset.synthesis.renders import GRID, RenderOptions, coarse_grid
from Dataset.synthesis.shards import INFO, open_shards
from Dataset.synthesis.sidecar import model_hash

GAP = 4                 # points of the 128x128 grid between two neighbouring pixels of a face that is seen


@dataclass(frozen=True)
class ImagesConfig(DataConfig, PointConfig):
    """All settings for the targets "points": DataConfig's of subject folders, PointConfig's of shards; for flags."""


LIVE = "live"           # in place of a folder: subjects rendered while the network trains
#: what a network is trained on -> the configs of its generators from LIVE and from shards, where there is LIVE
LIVE_CONFIGS: dict[str, tuple[type, type]] = {
    "keypoints": (LiveConfig, ShardConfig), "maps": (LiveMapConfig, MapConfig), "depth": (LiveDepthConfig, DepthConfig)}
#: what a network is trained on -> the config with all settings of its generators; `data_config` chooses one of them
DATA_CONFIGS: dict[str, type] = {"points": ImagesConfig, "coefficients": CoefficientConfig, "volume": VolumeConfig,
                                 **{targets: live for targets, (live, _) in LIVE_CONFIGS.items()}}

#: what a network is trained on -> the config of its generator from a folder without shards, where there is one
FOLDER_CONFIGS: dict[str, type] = {"depth": PairConfig}
#: the config of a generator that is fed from shards -> what makes its training and validation sequence
FROM_SHARDS = {ShardConfig: make_sequences, MapConfig: make_map_sequences, VolumeConfig: make_volume_sequences,
               CoefficientConfig: make_coefficient_sequences}
Feed = SubjectSequence | ShardSequence | MapSequence | PairSequence | CoefficientSequence | VolumeSequence


class Source(NamedTuple):
    """training, validation: sequences for `pipeline.make_pipeline`; template: the training subjects' mean truth (N, 3),
    of maps, depths and volumes the mean face (SIZE^2, 3) in the unit sphere, of coefficients its 256 keypoints in mm of
    the head frame and their PNCC (256, 6); about: order of the points, who trains and on
    what, for config.json: a resumed run must find the same; model: settings of the network that the data decide; live:
    whose processes the end of a `with` ends."""

    training: Feed
    validation: Feed
    template: np.ndarray
    about: dict[str, Any]
    model: dict[str, Any]
    live: LiveSubjects | None = None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.close()


def data_config(targets: str, folder: str | Path, given: Iterable[str]) -> type:
    """The config of the generator that makes `targets` (a key of DATA_CONFIGS) from `folder` or LIVE. ValueError when
    nothing does, or when a setting was given that another kind of data has: of LIVE for a folder, of shards for photos
    with depth."""
    if targets not in LIVE_CONFIGS:
        if str(folder) == LIVE:
            raise ValueError(f"{LIVE}: subjects rendered on the fly give {', '.join(LIVE_CONFIGS)}, this preset trains "
                             f"on {targets}; a folder of this name is ./{LIVE}")
        if DATA_CONFIGS[targets] is not ImagesConfig:
            return DATA_CONFIGS[targets]
        shards = (Path(folder) / INFO).is_file()
        return _narrower(PointConfig if shards else DataConfig, ImagesConfig, given, f"{folder}: {{}} may be set for "
                         + ("subject folders only" if shards else "shards only"))
    live, shards = LIVE_CONFIGS[targets]
    if str(folder) == LIVE:
        return live
    if targets in FOLDER_CONFIGS and not (Path(folder) / INFO).is_file():
        return _narrower(FOLDER_CONFIGS[targets], live, given, f"{folder}: {{}} may be set for shards only")
    return _narrower(shards, live, given,
                     f"{folder}: {{}} may be set for DATA {LIVE} only: these images are rendered")


def _narrower(config: type, flags: type, given: Iterable[str], message: str) -> type:
    """`config`, of whose settings `flags` has more. ValueError where one of these was given."""
    more = {field.name for field in dataclasses.fields(flags)} - {field.name for field in dataclasses.fields(config)}
    if more & set(given):
        raise ValueError(message.format(", ".join(sorted(more & set(given)))))
    return config


def open_source(folder: str | Path, split: str,
                data: DataConfig | ShardConfig | MapConfig | PairConfig | CoefficientConfig | VolumeConfig,
                workers: int | None = None) -> Source:
    """ValueError, one line, when the folder is of the other kind or does not suit the config.

    workers  processes that render for LIVE, None: one per core but one; nothing else has any
    """
    if isinstance(data, Rendered):
        maps = isinstance(data, MapConfig)
        training, validation = (open_live_maps if maps else open_live)(data, workers)
        subjects = {"validation": f"numbers below {data.validation_subjects}", "training": "without end"}
        about = {"order": "grid", "subjects": subjects, "shards": shards_of(data.rendering())}
        template = _mean_grid() if maps else training.targets.template
        return Source(training, validation, template, about, {"crop_margin": data.margin}, training.shards)
    if workers is not None:
        raise ValueError(f"{folder}: --workers render for DATA {LIVE} only")
    make = next((make for config, make in FROM_SHARDS.items() if isinstance(data, config)), None)
    if make is not None:
        shards = open_shards(folder, partial=True)
        training, validation = make(shards, data)
        about = {"order": "grid", "subjects": {"validation": f"numbers below {data.validation_subjects}"},
                 "shards": shards_of(shards.settings)}
        template = (training.targets.template if isinstance(data, ShardConfig) else
                    _mean_keypoints() if isinstance(data, CoefficientConfig)
                    else _mean_grid())
        if isinstance(data, CoefficientConfig):     # what its numbers are coefficients of
            about["face_model"] = model_hash(load_face_model())
        return Source(training, validation, template, about, {"crop_margin": shards.settings.margin})
    if isinstance(data, PairConfig):
        training, validation = pair_sequences(folder, data)
        subjects = {use: sorted({pair.subject for pair in sequence.pairs})
                    for use, sequence in (("training", training), ("validation", validation))}
        side = dataset_info(folder).settings.get("side")    # so that a photo's crop shows as much as these images
        margin = {} if side is None else {"crop_margin": round(RenderOptions.margin * side / RANGE, 2)}
        return Source(training, validation, _mean_grid(), {"order": "grid", "subjects": subjects}, margin)
    if (Path(folder) / INFO).is_file():
        raise ValueError(f"{folder}: holds shards, this preset trains on subject folders (python -m Dataset.synthetic)")
    groups = subjects_of(folder, split)
    training = SubjectSequence(groups["training"], data)
    validation = SubjectSequence(groups["validation"], dataclasses.replace(data, seed=data.seed + 1,
                                                                           as_published=False))
    names = {use: [subject.name for subject in group] for use, group in groups.items()}
    return Source(training, validation, training.mean_target(),
                  {"order": dataset_info(folder).order, "subjects": names}, {})


def _mean_keypoints() -> np.ndarray:
    """The mean face's 256 keypoints, mm of the head frame, and their PNCC: (256, 6)."""
    model = load_face_model()
    return coarse_grid(model) @ np.concatenate([model.mean, mean_code(model)], axis=1)


def _mean_grid() -> np.ndarray:
    """The mean face as the whole ordered grid, in the unit sphere."""
    model = load_face_model()
    return Targets(model, SIZE ** 2).make_template(np.zeros((1, len(model.identity)), np.float32))


def shards_of(settings: RenderOptions) -> dict[str, Any]:
    """The settings that identify a folder of shards, without its number of subjects, which may grow during training.
    Settings from before there was a choice are not mentioned, as in runs of that time."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.written().items() if k != "subjects"}


class SubjectSet(NamedTuple):
    """Shards for evaluation: `images(p)` gives subject p's images (T, S, S, 3) uint8 BGR; `count` is T; `targets`
    (P, N, 3) float32 neutral grids in the unit sphere, each brought onto `constant` (N, 3), the mean face, by a
    similarity, as in training; `digest` (hex) of who they are; `seed` of the shards; `in_photo(p, k)`: of subject p's
    image k the face with its expression as an ordered grid (N, 3) float32 mm, head frame, and which of its points the
    image shows (N,) bool; `turned(p, k)`: from there to the camera's upright frame, (3, 3) float64; `landmarks(p,
    k)`: where its 68 landmarks lie, hidden ones too, (68, 2) float32 in normalised coordinates of the image, and which
    of them it shows (68,) bool; `attributes(p, k)`: name -> value of subject p and its image k
    (Dataset/attributes.py)."""

    images: Callable[[int], np.ndarray]
    count: int
    targets: np.ndarray
    constant: np.ndarray
    digest: str
    seed: int
    in_photo: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
    turned: Callable[[int, int], np.ndarray]
    landmarks: Callable[[int, int], tuple[np.ndarray, np.ndarray]]
    attributes: Callable[[int, int], dict[str, str]]


def subject_set(folder: str | Path, size: int, points: int) -> SubjectSet:
    """All subjects of a folder of shards, larger images averaged down. ValueError when it is unfinished or its images
    are smaller than the model's."""
    shards = open_shards(folder)
    if shards.size < size:
        raise ValueError(f"{folder}: holds images of {shards.size} px, the model takes {size}")
    everyone = np.arange(len(shards))
    identity = shards.gather("identity", everyone)
    model, side = load_face_model(), round(points ** 0.5)
    targets = Targets(model, points)
    constant = targets.make_template(np.zeros_like(identity[:1]))

    def images(subject: int) -> np.ndarray:
        images = shards.gather("images", [subject])[0]
        if images.shape[1] == size:
            return images
        return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in images])

    def in_photo(subject: int, image: int) -> tuple[np.ndarray, np.ndarray]:
        expression, visible = (shards.gather(name, [subject], [image])[0] for name in ("expression", "visible"))
        face = encode(model.shape(identity[subject], expression), side, model).reshape(-1, 3)
        if {"uv", "visible_mask"} <= set(shards.names):
            uv, seen = (shards.gather(name, [subject], [image])[0] for name in ("uv", "visible_mask"))
            return face.astype(np.float32), shown_points(uv, seen, side)
        coarse = visible.reshape(GRID, GRID).astype(np.float32)     # a point is shown where most about it is
        seen = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR).ravel() > 0.5
        return face.astype(np.float32), seen

    def turned(subject: int, image: int) -> np.ndarray:
        return rotation_from_euler(*shards.gather("pose", [subject], [image])[0][:3].astype(float))

    def landmarks(subject: int, image: int) -> tuple[np.ndarray, np.ndarray]:
        keypoints, visible = (shards.gather(name, [subject], [image])[0] for name in ("landmarks", "visible"))
        # a landmark is shown where most about it is; the two of the jaw that the grid leaves out go with its boundary
        shown = grid_landmarks(np.repeat(visible[:, None], 3, 1).astype(np.float32), model)[:, 0] > 0.5
        return keypoints / shards.size, shown

    def attributes(subject: int, image: int) -> dict[str, str]:
        return {**subject_attributes(shards, subject), **image_attributes(shards, subject, image)}
    digest = hashlib.sha256(np.ascontiguousarray(identity).tobytes()).hexdigest()
    return SubjectSet(images, shards.images, targets(identity), constant, digest, shards.settings.seed, in_photo,
                      turned, landmarks, attributes)


def shown_points(uv: np.ndarray, seen: np.ndarray, side: int) -> np.ndarray:
    """Which points of an ordered grid of side x side an image shows, (side^2,) bool: uv (S, S, 2), where `seen` (S, S)
    is True where nothing hides the face. Points between those of neighbouring pixels count as shown, too, unless the
    face is so steep there that they lie more than GAP points apart."""
    keypoints = uv[np.asarray(seen) > 0.5].astype(np.float64)
    at = np.stack([(1 - keypoints[:, 1]) * SIZE - 0.5, keypoints[:, 0] * SIZE - 0.5], -1) * ((side - 1) / (SIZE - 1))
    rows, columns = np.clip(np.rint(at), 0, side - 1).astype(int).T
    shown = np.zeros((side, side), np.uint8)
    shown[rows, columns] = 1
    reach = 2 * round(GAP * side / SIZE / 2) + 1
    padded = cv2.copyMakeBorder(shown, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
    return closed[reach:-reach, reach:-reach].ravel() > 0


def subject_samples(folder: str | Path, subjects: str, split: str, data: DataConfig, margin: float = 1.0
                    ) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """(images (B, T, S, S, 3), targets (B, N, 3), names) of one epoch over a part of the subjects of subject folders;
    "all": everybody, without a split.

    margin  a network that was trained on grown boxes gets these crops, of the detector's own box, with their border
            repeated: the face has its size again, what lies beyond the crop is lost
    """
    chosen = list_subjects(folder) if subjects == "all" else subjects_of(folder, split)[subjects]
    sequence = SubjectSequence(chosen, data)
    for index in range(len(sequence)):
        images, targets = sequence.batch(0, index)
        yield (images if margin == 1 else _widened(images, margin)), targets, sequence.names(0, index)


def _widened(images: np.ndarray, margin: float) -> np.ndarray:
    """(B, T, S, S, 3) float32 with a rim of repeated pixels, scaled back to S."""
    size = images.shape[2]
    boundary = round(size * (margin - 1) / 2)
    wide = [cv2.copyMakeBorder(image, *[boundary] * 4, cv2.BORDER_REPLICATE) for row in images for image in row]
    small = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in wide]
    return np.stack(small).reshape(images.shape)
