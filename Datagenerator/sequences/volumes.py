"""Shards of synthetic subjects -> batches for the `vrn` network: images and the volumes that their faces fill.

No buffer is needed: who, which expression, which pose and which camera are in every shard, and the face's solid is
filled anew for each image. So a volume is turned, moved and enlarged before it is cut into voxels, not after.
What a batch holds depends on (seed, epoch, index) alone.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from Datagenerator.augmentation.maps import MAPS, MapSample, augment_maps
from Datagenerator.loading.epoch import Shard
from Datagenerator.sequences.keypoints import ImageSource
from Datagenerator.sequences.maps import without_face
from Datagenerator.sequences.single_images import ImageSequence, divided
from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.geometry.camera import look_at_face
from Dataset.geometry.transforms import plane_rotation
from Dataset.representations.coefficients import linear
from Dataset.representations.volume import SOLID, Frame, fill, frame_of, solid_matrix, solid_triangles
from Dataset.seeding import BATCHES, stream
from Dataset.synthesis.scene import pose_vertices
from Dataset.synthesis.shards import Shards

CELL = 4                # pixels of a heat map's cell


@dataclass(frozen=True)
class VolumeConfig:
    """Settings of the generator; augmentation is the paper's. ValueError for a value out of range."""

    batch_size: int = 1
    batches: int = 250              # of an epoch
    validation_subjects: int = 128    # held out: the subjects of the lowest numbers
    image_size: int = 192           # S, pixels, at most those of the shards: python -m Dataset.shards OUT --size 192
    layers: int = 200               # D, as many as the network's
    augment: bool = True            # what follows, of training images
    rotation: float = 45.0          # largest, degrees, in the image's plane
    shift: float = 15 / 192         # largest, of the side, each axis
    scale: tuple[float, float] = (0.85, 1.15)
    mirror: float = 0.2             # fraction that is turned left for right
    gain: tuple[float, float] = (0.6, 1.4)      # of each colour channel
    photos: bool = False            # also what the other networks' images get: occluders, light, blur, JPEG, noise
    empty: float = 0.0              # fraction of training images without a face: an empty volume
    heat_sigma: float = 1.0         # of the landmarks' Gaussians, cells of 4 pixels
    fade_epochs: int = 60           # the noise of `photos` fades to nothing over so many epochs
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum, limit in (("batch_size", 1, 4096), ("batches", 1, 10**6), ("validation_subjects", 1, 10**6),
                                     ("image_size", 16, 512), ("layers", 8, 512), ("rotation", 0, 180), ("shift", 0, 1),
                                     ("mirror", 0, 1), ("empty", 0, 1), ("heat_sigma", 0.1, 20), ("seed", 0, 2**63 - 1),
                                     ("fade_epochs", 1, 10**6)):
            if not minimum <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must be within {minimum} to {limit}, got {getattr(self, name)}")
        for name, limit in (("scale", 10), ("gain", 10)):
            low, high = getattr(self, name) if len(getattr(self, name)) == 2 else (0, 0)
            if not 0 < low <= high <= limit:
                raise ValueError(f"{name} must be low, high within 0 to {limit}, got {getattr(self, name)}")
        if self.image_size % CELL:
            raise ValueError(f"image_size must be a multiple of {CELL}, got {self.image_size}")


class Motion(NamedTuple):
    """What moves an image and its volume: pixels p -> matrix @ p + shift (px), z -> D / 2 + factor (z - D / 2);
    mirrored: the matrix holds a reflection."""

    matrix: np.ndarray
    shift: np.ndarray
    factor: float
    mirrored: bool


def draw_motion(rng: np.random.Generator, config: VolumeConfig) -> Motion:
    """Mirrored or not, then turned and enlarged about the crop's middle, then shifted."""
    size = config.image_size
    mirrored = bool(rng.random() < config.mirror)
    angle = np.radians(rng.uniform(-config.rotation, config.rotation))
    factor = float(rng.uniform(*config.scale))
    shift = rng.uniform(-config.shift, config.shift, 2) * size
    matrix = factor * plane_rotation(angle)
    if mirrored:
        matrix = matrix @ np.diag([-1.0, 1.0])
    middle = np.full(2, size / 2)
    return Motion(matrix, middle + shift - matrix @ middle, factor, mirrored)


def move_image(image: np.ndarray, motion: Motion) -> np.ndarray:
    """An image (S, S, 3), bilinear; its border is continued."""
    half = np.array([0.5, 0.5])         # OpenCV puts the first pixel's centre at (0, 0), we at (0.5, 0.5)
    matrix = np.column_stack([motion.matrix, motion.shift + motion.matrix @ half - half])
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def move_pixels(pixels: np.ndarray, motion: Motion) -> np.ndarray:
    """Pixels (..., 2) -> (..., 2) float64."""
    return np.asarray(pixels, np.float64) @ motion.matrix.T + motion.shift


def move_voxels(voxels: np.ndarray, motion: Motion, layers: int) -> np.ndarray:
    """Voxel coordinates (..., 3) -> the same; the proportions stay."""
    z = layers / 2 + motion.factor * (voxels[..., 2:] - layers / 2)
    return np.concatenate([move_pixels(voxels[..., :2], motion), z], -1)


@lru_cache(maxsize=2)
def mirrored_landmarks(model: FaceModel) -> np.ndarray:
    """(68,) int64: landmark i of a mirrored image is landmark mirrored[i] of the one it was; from the mean face,
    which is symmetric."""
    keypoints = model.landmarks(model.mean)
    return np.linalg.norm((keypoints * [-1, 1, 1])[:, None] - keypoints, axis=-1).argmin(1)


def heat_maps(keypoints: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Gaussians (size, size, K) float32 of height 1 at points (K, 2) in normalised coordinates of the crop; sigma in
    cells."""
    cells = np.arange(size) + 0.5
    x, y = (np.exp(-((cells - size * np.asarray(keypoints)[:, axis, None]) / sigma) ** 2 / 2) for axis in (0, 1))
    return np.einsum("kr,kc->rck", y, x).astype(np.float32)


class VolumeSequence(ImageSequence):
    """Batches (x, y) of an epoch; `pipeline.make_pipeline` makes them in parallel and ahead.

    x   (B, S, S, 3) float32, BGR, each image alone stretched to [0, 1]
    y   volume (B, S, S, D) float32, 1 inside the face, else 0, as `Dataset.representations.volume` says; heat_maps
        (B, S/4, S/4, 68) float32 in [0, 1]

    subjects: numbers of those in use; training: as the config says, else nothing is changed and the images are taken
    in turn, each subject's first ones. ValueError where the shards' images are smaller than the config's.
    """

    def __init__(self, shards: ImageSource, subjects: np.ndarray, config: VolumeConfig, training: bool,
                 model: FaceModel | None = None) -> None:
        if config.image_size > shards.size:     # enlarged images would hold no more detail
            raise ValueError(f"{shards.path}: holds images of {shards.size} px, fewer than image_size "
                             f"{config.image_size}; render them with --size {config.image_size}")
        super().__init__(shards, subjects, config, training)
        self.model = load_face_model() if model is None else model
        self._matrix, self._triangles = solid_matrix(self.model, SOLID), solid_triangles(SOLID)

    @property
    def shapes(self) -> tuple[tuple, dict[str, tuple]]:
        """Shapes of x and y; None is what varies."""
        size, cells = self.config.image_size, self.config.image_size // CELL
        return (None, size, size, 3), {"volume": (None, size, size, self.config.layers),
                                       "heat_maps": (None, cells, cells, 68)}

    def draw(self, epoch: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """subjects and images (B, 3) of a batch: the first is shown, two lend occluders their shapes and colours; seeds
        (B,) of all that is drawn later. Depends on its arguments alone."""
        rng = stream(self.config.seed, BATCHES, epoch, index)
        subjects, images = self._who(rng, index, 3)
        return subjects, images, rng.integers(2**63, size=self.config.batch_size)

    def batch(self, epoch: int, index: int, shard: Shard = Shard()) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Batch `index` of an epoch, or one worker's part of it. Depends on its arguments alone; thread-safe."""
        subjects, images, seeds = self.draw(epoch, index)
        rows = np.asarray(self.rows(index, shard), np.int64)
        return self._stacked(subjects[rows], images[rows], seeds[rows], min(1.0, epoch / self.config.fade_epochs))

    def of(self, subjects: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The images `images` (B,) of `subjects` (B,) as they were rendered, as `batch` gives them. ValueError of a
        sequence for training, which changes them."""
        if self.training:
            raise ValueError("images as they were rendered are of a sequence that is not for training")
        subjects, images = np.asarray(subjects), np.asarray(images)
        return self._stacked(subjects[:, None], images[:, None], np.zeros(len(subjects), int), 1.0)

    def _stacked(self, subjects: np.ndarray, images: np.ndarray, seeds: np.ndarray, progress: float
                 ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        x = np.empty((len(subjects), *self.shapes[0][1:]), np.float32)
        y = {name: np.empty((len(subjects), *shape[1:]), np.float32) for name, shape in self.shapes[1].items()}
        faces = self._faces(subjects[:, 0], images[:, 0])
        for i, seed in enumerate(seeds):
            image, volume, maps = self._made(faces[i], subjects[i], images[i], np.random.default_rng(seed), progress)
            cv2.normalize(image, x[i], 0.0, 1.0, cv2.NORM_MINMAX, cv2.CV_32F)
            y["volume"][i], y["heat_maps"][i] = volume, maps
        return x, y

    def truth(self, subject: int, image: int) -> tuple[np.ndarray, np.ndarray]:
        """Of an image as it was rendered, at this config's size: the solid's vertices (K, 3) in voxel coordinates, and
        the 68 landmarks (68, 2), px."""
        return self._truth(self._faces(np.array([subject]), np.array([image]))[0], subject, image)

    def head(self, subject: int, image: int) -> tuple[np.ndarray, Frame]:
        """The rendered face of an image, (V, 3) mm in camera coordinates, and the frame of its volume."""
        head, _, frame = self._posed(self._faces(np.array([subject]), np.array([image]))[0], subject, image)
        return head, frame

    def _faces(self, subjects: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Faces with expression (B, V, 3) float32 mm, head frame, of subjects (B,) in images (B,): one product for all,
        several times as fast as one for each."""
        coefficients = np.concatenate([self.shards.gather("identity", subjects),
                                       self.shards.gather("expression", subjects, images)], axis=1)
        return linear(self.model, "vertices")(coefficients).transpose(0, 2, 1)

    def _truth(self, face: np.ndarray, subject: int, image: int) -> tuple[np.ndarray, np.ndarray]:
        """`truth` of a face (V, 3)."""
        landmarks = self.shards.gather("landmarks", np.array([subject]), np.array([image]))[0]
        _, solid, frame = self._posed(face, subject, image)
        return frame.voxels(solid), landmarks * (self.config.image_size / self.shards.size)

    def _posed(self, face: np.ndarray, subject: int, image: int) -> tuple[np.ndarray, np.ndarray, Frame]:
        """A face (V, 3) as the image's camera met it: vertices (V, 3) and its solid's (K, 3), mm in the camera's
        world, and the volume's frame."""
        pose, numbers = (self.shards.gather(name, np.array([subject]), np.array([image]))[0]
                         for name in ("pose", "camera"))
        size, rendered = self.config.image_size, self.shards.size
        focal, x, y, distance = (float(number) for number in numbers)
        camera = look_at_face(rendered, distance, focal)._replace(centre=(x, y))
        camera = camera.crop((0, 0, rendered, rendered), size)
        head = pose_vertices(face, pose)
        solid = self._matrix @ head
        return head, solid, frame_of(solid, camera, self.config.layers)

    def _made(self, face: np.ndarray, subjects: np.ndarray, images: np.ndarray, rng: np.random.Generator,
              progress: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        config, triangles = self.config, self._triangles
        image, (voxels, landmarks) = self._image(subjects[0], images[0]), self._truth(face, subjects[0], images[0])
        empty = self.training and rng.random() < config.empty
        if self.training and config.augment:
            motion = draw_motion(rng, config)
            image, voxels = move_image(image, motion), move_voxels(voxels, motion, config.layers)
            landmarks = move_pixels(landmarks, motion)
            if motion.mirrored:
                triangles, landmarks = triangles[:, ::-1], landmarks[mirrored_landmarks(self.model)]
            image = np.clip(np.rint(image * rng.uniform(*config.gain, 3)), 0, 255).astype(np.uint8)
        volume = fill(voxels, triangles, config.image_size, config.layers)
        maps = heat_maps(landmarks / config.image_size, config.image_size // CELL, config.heat_sigma)
        if empty:
            image = without_face(image, volume.any(-1), rng)
            volume, maps = np.zeros_like(volume), np.zeros_like(maps)
        if self.training and config.photos:
            size = config.image_size
            sample = MapSample(np.ascontiguousarray(image), np.zeros((size, size, 2), np.float16),
                               np.zeros((size, size), bool), np.zeros((size, size), np.float32))
            others = (self._image(subjects[1], images[1]), self._image(subjects[2], images[2]))
            image = augment_maps(sample, rng, MAPS, progress, others).image
        return image, volume, maps

    def _image(self, subject: int, image: int) -> np.ndarray:
        pixels = self.shards.gather("images", np.array([subject]), np.array([image]))[0]
        size = self.config.image_size
        return pixels if len(pixels) == size else cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)


def make_volume_sequences(shards: Shards, config: VolumeConfig) -> tuple[VolumeSequence, VolumeSequence]:
    """(training, validation): subjects of the lowest numbers are held out. ValueError when none are left for either."""
    training, held_out = divided(shards, config.validation_subjects)
    return VolumeSequence(shards, training, config, True), VolumeSequence(shards, held_out, config, False)
