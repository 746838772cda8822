"""Shards of synthetic subjects -> batches for networks with dense predictions: `uvnet` (UV and masks) and `pix2pix`
(depth). A batch depends on (seed, epoch, index) alone.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import cv2
import numpy as np

from Datagenerator.augmentation.maps import PHOTOS, MapAugmentConfig, MapSample, augment_maps, paste
from Datagenerator.augmentation.pair_jitter import ENLARGED, pair_jitter
from Datagenerator.loading.epoch import Shard
from Datagenerator.sequences.keypoints import ImageSource
from Datagenerator.sequences.single_images import ImageSequence, divided
from Dataset.geometry.transforms import rotation_from_euler
from Dataset.io.images import SCALINGS, scaled
from Dataset.rendering.shading import to_bgr8
from Dataset.representations.depth import BACKGROUND, encode_depth
from Dataset.representations.uvmap import erode
from Dataset.seeding import BATCHES, stream
from Dataset.synthesis.background import backdrop
from Dataset.synthesis.shards import Shards, open_shards

TARGETS = {"uv": ("uv", "mask", "visible_mask"), "depth": ("depth", "visible_mask")}        # -> the buffers they need
EXTRAS = {"depth": ("depth",), "landmarks": (), "pose": ()}                         # of uv, likewise
ASIDES = {"landmarks": (68, 2), "pose": (6,)}       # shapes of the extras that are no maps
STEPS = ("shuffle", "exposure", "gamma", "noise")   # of the augmentation, beside occlusion
_STRIP = 1 / 5          # of the side: a narrower strip beside a face cannot fill an image
_JITTER = {"scale": (0.85, 1.2), "shift": 0.08, "rotation": 12.0}       # crop-scale augmentation of uv


@dataclass(frozen=True)
class MapConfig:
    """Settings of the generator. ValueError for a value out of range."""

    target: str = "uv"              # or depth
    batch_size: int = 40
    batches: int = 250              # of an epoch
    validation_subjects: int = 128    # held out: the subjects of the lowest numbers
    image_size: int = 128           # pixels; images of a multiple of it are averaged down
    scaling: str = "unit"           # of the pixels, Dataset.io.images.scaled; the network's
    augment: bool = True            # Datagenerator/augmentation/maps.py; of depth only steps that keep the geometry
    photos: bool = False            # with augment: degradations of photos (augmentation/maps.py: PHOTOS)
    occlusion: float = 1.0          # with augment: fraction of the images with an occluder
    without: tuple[str, ...] = ()   # of augment, steps left out: shuffle, exposure, gamma, noise (ablations of 3.6)
    quarters: bool = False          # of uv: rotated by 0, 90, 180 or 270 degrees
    jitter: bool = False            # of uv: scale, shift, rotation; of depth: pix2pix's crop and mirror
    empty: float = 0.1              # fraction of training images without a face
    faces_in_image: int = 1       # of uv: at most so many per training image, the others smaller
    extras: tuple[str, ...] = ()    # of uv: depth, landmarks, pose, as auxiliary targets
    fade_epochs: int = 60           # epochs over which the noise of augmentation fades to zero
    seed: int = 0

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {self.target!r}")
        for name, limit in (("batch_size", 4096), ("batches", 10**6), ("validation_subjects", 10**6),
                            ("image_size", 512), ("faces_in_image", 4), ("fade_epochs", 10**6)):
            if not 1 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must be within 1 to {limit}, got {getattr(self, name)}")
        for name in ("empty", "occlusion"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be within 0 to 1, got {getattr(self, name)}")
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {self.scaling!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        if self.target == "depth" and (self.quarters or self.faces_in_image > 1):
            raise ValueError("quarters and faces_in_image are for target uv")
        if not set(self.without) <= set(STEPS):
            raise ValueError(f"without must be some of {', '.join(STEPS)}, got {', '.join(self.without)}")
        unknown = [name for name in self.extras if name not in EXTRAS]
        if unknown or len(set(self.extras)) != len(self.extras) or self.extras and self.target != "uv":
            raise ValueError(f"extras must be some of {', '.join(EXTRAS)}, once each, for target uv, "
                             f"got {', '.join(self.extras)} for {self.target}")
        if "depth" in self.extras and self.faces_in_image > 1:
            raise ValueError("extras depth counts from one face's nearest point: faces_in_image must be 1")

    def needed(self) -> tuple[str, ...]:
        """The buffers that images must come with."""
        return TARGETS[self.target] + tuple(name for extra in self.extras for name in EXTRAS[extra])

    def steps(self) -> MapAugmentConfig:
        """What `augment_maps` does to a training image."""
        moves = (_JITTER if self.jitter and self.target == "uv" else {}) | {"quarters": float(self.quarters)}
        if not self.augment:
            return MapAugmentConfig.off(**moves)
        off = MapAugmentConfig.off()
        return MapAugmentConfig(**(moves | {"crops": self.occlusion} | (PHOTOS if self.photos else {})
                                   | {name: getattr(off, name) for name in self.without}))


@dataclass(frozen=True)
class DepthConfig(MapConfig):
    """`MapConfig` with what the pix2pix paper does: depth, batches of 1, jitter and nothing else."""

    target: str = "depth"
    batch_size: int = 1
    image_size: int = 256
    augment: bool = False
    jitter: bool = True
    empty: float = 0.0


class Draw(NamedTuple):
    """Who stands in a batch: subjects and images (B, K), seeds (B,) of all that is drawn later. Of the K images the
    first is shown, two lend occluders their shapes and colours, the rest may be pasted beside it."""

    subjects: np.ndarray
    images: np.ndarray
    seeds: np.ndarray


class MapSequence(ImageSequence):
    """Batches (x, y) of an epoch; `pipeline.make_pipeline` makes them in parallel and ahead.

    x   (B, S, S, 3) float32, BGR, in [0, 1] by `Dataset.io.images.scaled`
    y   target uv: uv (B, S, S, 2) float32, 0 outside the mask; mask, visible_mask, eroded (B, S, S, 1) float32 in
        [0, 1], as `Dataset.representations.uvmap` has them, visible_mask with what augmentation laid over the face. Of
        extras, depth (B, S, S, 1) float32 as of target depth, but of the face under what augmentation laid over it,
        too; landmarks (B, 68, 2) in normalised coordinates of the image; pose (B, 6), the first two rows of the head's
        rotation in the camera's upright frame, turned with the image: the largest face's; 0 without a face target
        depth: depth (B, S, S, 1) float32 in [-1, 1], `Dataset.representations.depth.encode_depth` of the face that the
        render shows, -1 elsewhere (hair and glasses before it, too); what augmentation lays over it changes nothing

    In smaller images than the shards', a pixel has the uv and depth of the middle one of its block (of an even number
    the one right below the middle) and is in a mask where the whole block is.
    subjects: numbers of those in use; training: as the config says, else nothing is changed and the images are taken
    in turn, each subject's first ones.
    """

    def __init__(self, shards: ImageSource, subjects: np.ndarray, config: MapConfig, training: bool) -> None:
        names = getattr(shards, "names", ())
        missing = [name for name in config.needed() if name not in names]
        if missing:
            raise ValueError(f"{shards.path}: target {config.target} needs the buffers {', '.join(missing)} "
                             f"(python -m Dataset.shards --buffers {','.join(config.needed())})")
        if shards.size % config.image_size:
            raise ValueError(f"{shards.path}: holds images of {shards.size} px, which must be a multiple of "
                             f"image_size {config.image_size}")
        super().__init__(shards, subjects, config, training)
        self._steps = config.steps()

    @property
    def shapes(self) -> tuple[tuple, dict[str, tuple]]:
        """Shapes of x and y; None is what varies."""
        size = self.config.image_size
        extras, depth = self.config.extras, {"depth": 1}
        channels = {"uv": 2, "mask": 1, "visible_mask": 1, **(depth if "depth" in extras else {}), "eroded": 1} \
            if self.config.target == "uv" else depth
        shapes = {name: (None, size, size, count) for name, count in channels.items()}
        return (None, size, size, 3), {**shapes, **{name: (None, *ASIDES[name]) for name in ASIDES if name in extras}}

    def draw(self, epoch: int, index: int) -> Draw:
        """Depends on its arguments alone."""
        rng = stream(self.config.seed, BATCHES, epoch, index)
        subjects, images = self._who(rng, index, self.config.faces_in_image + 2)
        return Draw(subjects, images, rng.integers(2**63, size=self.config.batch_size))

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Batch `index` of an epoch, or one worker's part of it. Depends on its arguments alone; thread-safe."""
        drawn, size = self.draw(epoch, index), self.config.image_size
        rows = np.asarray(self.rows(index, shard), np.int64)
        x = np.empty((len(rows), size, size, 3), np.float32)
        y = {name: np.empty((len(rows), *shape[1:]), np.float32) for name, shape in self.shapes[1].items()}
        progress = min(1.0, epoch / self.config.fade_epochs)
        make = self._uv if self.config.target == "uv" else self._depth
        for i, row in enumerate(rows):
            rng = np.random.default_rng(drawn.seeds[row])
            image, maps = make(drawn.subjects[row], drawn.images[row], rng, progress)
            x[i] = scaled(image, self.config.scaling)
            for name, value in maps.items():
                y[name][i] = value
        return x, y

    def _uv(self, subjects: np.ndarray, images: np.ndarray, rng: np.random.Generator, progress: float
            ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        sample = self._sample(subjects[0], images[0])
        if self.training:
            if rng.random() < self.config.empty:
                size = self.config.image_size
                blank = np.zeros((size, size), np.float32)
                sample = MapSample(without_face(sample.image, sample.mask, rng), np.zeros_like(sample.uv),
                                   blank.astype(bool), blank)
            else:
                for extra in range(rng.integers(self.config.faces_in_image)):
                    sample = paste(sample, self._sample(subjects[3 + extra], images[3 + extra]), rng)
            sample = self._augmented(sample, subjects, images, rng, progress)
        mask = sample.mask[..., None]
        return sample.image, {"uv": np.where(mask, sample.uv[..., :2], 0), "mask": mask,
                              "visible_mask": sample.visible_mask[..., None], "eroded": erode(sample.mask)[..., None],
                              **self._extras(sample, subjects[0], images[0])}

    def _extras(self, sample: MapSample, subject: int, image: int) -> dict[str, np.ndarray]:
        found, linear = {}, sample.motion[:, :2]
        if "depth" in self.config.extras:       # behind the nearest point, in image widths: it scales with the image
            grown, known = np.sqrt(abs(np.linalg.det(linear))), sample.mask & (sample.uv[..., 2] > BACKGROUND)
            found["depth"] = np.where(known, 1 - grown * (1 - sample.uv[..., 2]), BACKGROUND)[..., None].clip(-1, 1)
        there = bool(sample.mask.any())
        if "landmarks" in self.config.extras:
            keypoints = self._gathered("landmarks", subject, image) * (self.config.image_size / self.shards.size)
            found["landmarks"] = there * (keypoints @ linear.T + sample.motion[:, 2]) / self.config.image_size
        if "pose" in self.config.extras:
            rotation = rotation_from_euler(*self._gathered("pose", subject, image)[:3].astype(float))[:2]
            upright = np.diag([1, -1]) @ linear @ np.diag([1, -1])          # rows of an image run down
            found["pose"] = there * (upright / np.sqrt(abs(np.linalg.det(linear))) @ rotation).ravel()
        return found

    def _depth(self, subjects: np.ndarray, images: np.ndarray, rng: np.random.Generator, progress: float
               ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        image, mask = self._image(subjects[0], images[0]), self._mask("visible_mask", subjects[0], images[0])
        depth, focal = self._middle("depth", subjects[0], images[0]), self._focal(subjects[0], images[0])
        if self.training:
            if rng.random() < self.config.empty:
                image, mask = without_face(image, mask, rng), np.zeros_like(mask)
            if self.config.jitter:
                image, depth, mask = pair_jitter(image, depth, mask, rng=rng)
                focal *= ENLARGED
            sample = MapSample(np.ascontiguousarray(image), np.zeros((*mask.shape, 2), np.float16), mask,
                               mask.astype(np.float32))
            image = self._augmented(sample, subjects, images, rng, progress).image
        return image, {"depth": encode_depth(depth, mask, focal)}

    def _augmented(self, sample: MapSample, subjects: np.ndarray, images: np.ndarray, rng: np.random.Generator,
                   progress: float) -> MapSample:
        others = None
        if self.config.augment:
            others = self._image(subjects[1], images[1]), self._image(subjects[2], images[2])
        return augment_maps(sample, rng, self._steps, progress, others)

    def _sample(self, subject: int, image: int) -> MapSample:
        uv, seen = self._middle("uv", subject, image), self._mask("visible_mask", subject, image)
        if "depth" in self.config.extras:       # moves with uv; unknown where hair or glasses stand before the face
            depth = encode_depth(self._middle("depth", subject, image), seen, self._focal(subject, image))
            uv = np.concatenate([uv.astype(np.float32), depth], -1)
        return MapSample(self._image(subject, image), uv, self._mask("mask", subject, image), seen.astype(np.float32))

    def _gathered(self, name: str, subject: int, image: int) -> np.ndarray:
        return self.shards.gather(name, np.array([subject]), np.array([image]))[0]

    def _image(self, subject: int, image: int) -> np.ndarray:
        pixels, size = self._gathered("images", subject, image), self.config.image_size
        return pixels if len(pixels) == size else cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)

    def _middle(self, name: str, subject: int, image: int) -> np.ndarray:
        pixels, block = self._gathered(name, subject, image), self.shards.size // self.config.image_size
        return pixels[block // 2::block, block // 2::block]

    def _mask(self, name: str, subject: int, image: int) -> np.ndarray:
        pixels, size = self._gathered(name, subject, image), self.config.image_size
        return pixels.reshape(size, len(pixels) // size, size, -1).all((1, 3))

    def _focal(self, subject: int, image: int) -> float:
        """Of the camera, in pixels of the network's image."""
        return float(self._gathered("camera", subject, image)[0]) * self.config.image_size / self.shards.size


def without_face(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image (S, S, 3) uint8 BGR like `image` in size without a face: half of them what lies beside the face, above
    or below it (hair, ears, neck, clothes, background), drawn out; the others, and where nothing is, clutter."""
    size = len(image)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if rng.random() < 0.5 and len(rows):
        top, bottom = max(rows[0] - 2, 0), min(rows[-1] + 3, size)
        left, right = max(columns[0] - 2, 0), min(columns[-1] + 3, size)
        strips = [s for s in (image[:top], image[bottom:], image[:, :left], image[:, right:])
                  if min(s.shape[:2]) >= _STRIP * size]
        if strips:
            strip = strips[rng.integers(len(strips))]
            side = min(strip.shape[:2])
            y, x = (int(rng.integers(0, whole - side + 1)) for whole in strip.shape[:2])
            return cv2.resize(strip[y:y + side, x:x + side], (size, size), interpolation=cv2.INTER_LINEAR)
    return to_bgr8(backdrop(size, rng, float(rng.uniform(0, 1))), float(rng.uniform(0, 0.35)))


def make_map_sequences(shards: Shards, config: MapConfig) -> tuple[MapSequence, MapSequence]:
    """(training, validation): subjects of the lowest numbers are held out. ValueError when none are left for either."""
    training, held_out = divided(shards, config.validation_subjects)
    return MapSequence(shards, training, config, True), MapSequence(shards, held_out, config, False)


class MapBatch(NamedTuple):
    """images and maps: x and y of `MapSequence`, as rendered; landmarks (B, 68, 2) float32, in normalised coordinates
    of the image."""

    images: np.ndarray
    maps: dict[str, np.ndarray]
    landmarks: np.ndarray


def maps_of(folder: str | Path, size: int, images: int, scaling: str = "unit") -> Callable[[], Iterator[MapBatch]]:
    """`everybodys_maps` of a folder of shards, as often as it is called. ValueError for what is none."""
    shards = open_shards(folder)
    return lambda: everybodys_maps(shards, size, images, scaling=scaling)


def everybodys_maps(shards: Shards, size: int, images: int, batch: int = 16, scaling: str = "unit"
                    ) -> Iterator[MapBatch]:
    """Each subject's first `images` images, at `size` px and scaled as a network's Config says, with their maps, to
    evaluate it on. ValueError for more images than there are, and what `MapSequence` refuses."""
    if not 1 <= images <= shards.images:
        raise ValueError(f"--images must be 1 to {shards.images}, as many as each subject has images, got {images}")
    config = MapConfig(image_size=size, batch_size=batch, scaling=scaling, extras=("landmarks",))
    sequence = MapSequence(shards, np.arange(len(shards)), config, training=False)
    for index in range(-(-len(shards) * images // batch)):
        x, y = sequence.batch(0, index)
        count = min(batch, len(shards) * images - index * batch)        # of the last batch, what is not taken again
        yield MapBatch(x[:count], {name: y[name][:count] for name in y if name != "landmarks"}, y["landmarks"][:count])
