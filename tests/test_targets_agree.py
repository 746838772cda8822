"""Each generator: after all augmentation image and target still agree. Project the target, look at the pixel."""
import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree

from Datagenerator.augmentation import occluders
from Datagenerator.sequences import depth_pairs as pair_dataset
from Datagenerator.sequences.coefficients import CoefficientConfig, CoefficientSequence
from Datagenerator.sequences.depth_pairs import PairConfig, PairSequence
from Datagenerator.sequences.keypoints import PointSequence, ShardConfig, ShardSequence
from Datagenerator.sequences.maps import DepthConfig, MapConfig, MapSequence
from Datagenerator.sequences.volumes import VolumeConfig, VolumeSequence
from Dataset.face_model.model import load_face_model
from Dataset.representations import coefficients as c
from Dataset.representations.volume import fill
from Dataset.sources.depth_pairs import Pair
from tests.coded import (BETWEEN, BRIGHT, CODE, DARK, FIELDS, INNER, ImageSource, code_accuracy, field_of, grid_code,
                         painted, pixels)

S = 128
Y, X = np.mgrid[:S, :S] + 0.5
LATTICE = np.stack(np.meshgrid(*[np.linspace(0, 1, 16)] * 2), -1).reshape(-1, 2)      # x, y of each grid point
FACE = np.stack([LATTICE[:, 0] - 0.5, 0.3 - LATTICE[:, 1], LATTICE[:, 0] ** 2], -1).astype(np.float32)     # lopsided
MIRRORED_FACE = (FACE.reshape(16, 16, 3)[:, ::-1] * (-1, 1, 1)).reshape(256, 3)
LOW, HIGH = 3.0, 125.0          # px: where the grid's first and last points lie


def repeated(array: np.ndarray, subjects: int = 5, images: int = 2) -> np.ndarray:
    return np.broadcast_to(array, (subjects, images, *array.shape)).copy()


def grid_images(reach: float = 0.0) -> ImageSource:
    """Subjects whose 16x16 grid lies over the image, and beyond its right side by `reach` px."""
    low, high = np.array([LOW, LOW]), np.array([HIGH + reach, HIGH])
    points = low + LATTICE * (high - low)
    margin = (high - low) / 30          # the coded square ends half a grid step beyond the outermost points
    across, down = ((v - l + m) / (h - l + 2 * m) for v, l, h, m in zip((X, Y), low, high, margin))
    return ImageSource(images=repeated(painted(across, down)), image_points=repeated(points.astype(np.float32)),
                       visible=repeated(np.ones(256, bool)), identity=np.zeros((5, 200), np.float32))


def grid_sequence(source: ImageSource, training: bool = True, kind: type = ShardSequence, **changes) -> ShardSequence:
    config = ShardConfig(max_images=2, batch_images=8, validation_subjects=1, points=256, **changes)
    return kind(source, source.subjects, config, lambda identity: np.stack([FACE] * len(identity)), training)


@pytest.mark.parametrize("size", [128, 64])
def test_keypoints_lie_on_their_pixels(size):
    """Mirrored or not: the face says which, its keypoints are in the order of the face, its image shows them."""
    source, fractions, which = grid_images(), [], []
    shown = np.arange(256) % 16 > 1             # the subject's right border is hidden
    source.arrays["visible"][:] = shown
    sequence, faces = (grid_sequence(source, kind=kind, image_size=size) for kind in (ShardSequence, PointSequence))
    for index in range(6):
        x, y = sequence.batch(0, index)
        for subject, face in enumerate(faces.batch(0, index)[1]):
            mirrored = bool(np.allclose(face, MIRRORED_FACE))
            assert mirrored or np.allclose(face, FACE)
            which.append(mirrored)
            hidden = ~shown.reshape(16, 16)[:, ::-1 if mirrored else 1].ravel()
            assert not y["seen"][subject][:, hidden].any() and y["seen"][subject].any()
            for image, keypoints, seen in zip(x[subject], y["keypoints"][subject], y["seen"][subject]):
                used = INNER & (seen > 0)
                assert used.sum() > 12
                fractions.append(code_accuracy(pixels(image, keypoints[used] * size), grid_code(mirrored)[used]))
    assert 0.2 < np.mean(which) < 0.8
    assert np.mean(fractions) > 0.97 and np.median(fractions) == 1, sorted(fractions)[:9]


@pytest.mark.parametrize("training", [True, False])
def test_keypoints_off_the_image_are_not_seen(training):
    """The right fifth of the grid lies off the image, though the source calls it visible."""
    sequence = grid_sequence(grid_images(reach=30.0), training, augment=False)
    for index in range(2):
        _, y = sequence.batch(0, index)
        outside = ((y["keypoints"] < 0) | (y["keypoints"] > 1)).any(-1)
        assert 0.1 < outside.mean() < 0.3
        np.testing.assert_array_equal(y["seen"] > 0, ~outside)


FACE_BOX = (12.0, 8.0, 104.0, 112.0)            # x, y, width, height px of the coded face in the maps' images


def map_images() -> ImageSource:
    """A flat coded face whose uv is its own square, with landmarks, a depth of two levels and a pose."""
    x, y, width, height = FACE_BOX
    across, down = (X - x) / width, (Y - y) / height
    mask = (across > 0) & (across < 1) & (down > 0) & (down < 1)
    bright, _ = field_of(across, down)
    uv = np.where(mask[..., None], np.stack([across, 1 - down], -1), np.nan).astype(np.float16)
    depth = np.where(mask, np.where(bright, 700.0, 730.0), np.nan).astype(np.float32)
    marks = np.random.default_rng(7).uniform((0.05, 0.05), (0.95, 0.95), (68, 2)) * (width, height) + (x, y)
    return ImageSource(images=repeated(painted(across, down)), uv=repeated(uv), mask=repeated(mask),
                       visible_mask=repeated(mask), depth=repeated(depth), landmarks=repeated(marks.astype(np.float32)),
                       pose=repeated(np.zeros(6, np.float32)),
                       camera=repeated(np.array([700.0, S / 2, S / 2, 700], np.float32)),
                       identity=np.zeros((5, 200), np.float32))


UV = MapConfig(batch_size=6, validation_subjects=1, image_size=64, empty=0.0)


@pytest.mark.parametrize("config", [
    UV, dataclasses.replace(UV, jitter=True, quarters=True), dataclasses.replace(UV, image_size=128, jitter=True),
    dataclasses.replace(UV, jitter=True, quarters=True, extras=("depth", "landmarks", "pose")),
    dataclasses.replace(UV, image_size=128, augment=False, faces_in_image=2)], ids=range(5))
def test_the_uv_map_names_what_its_pixels_show(config):
    source, agreed, turned = map_images(), [], []
    sequence, size = MapSequence(source, source.subjects, config, True), config.image_size
    x0, y0, width, height = FACE_BOX
    for index in range(3):
        x, y = sequence.batch(0, index)
        for i, image in enumerate(x):
            uv, seen = y["uv"][i], (y["mask"][i, ..., 0] > 0) & (y["visible_mask"][i, ..., 0] > 0.9)
            bright, deep = field_of(uv[..., 0], 1 - uv[..., 1])
            used = seen & deep
            if used.sum() < 100:            # a crop of another image may hide nearly all
                continue
            agreed.append(code_accuracy(image[used], bright[used]))
            turned.append(np.ptp(uv[..., 0][seen].reshape(-1)) > 0 and abs(np.corrcoef(
                np.nonzero(seen)[1], uv[..., 0][seen])[0, 1]) < 0.5)
            if "landmarks" in y:
                marks = y["landmarks"][i] * size
                there = ((marks > 0) & (marks < size)).all(-1)
                there[there] = seen[tuple(np.floor(marks[there]).astype(int).T[::-1])]
                named = pixels(uv, marks[there]) * (1, -1) + (0, 1)
                true = (source.arrays["landmarks"][0, 0][there] - (x0, y0)) / (width, height)
                assert there.sum() > 10 and np.abs(named - true).max() < 2.5 / (size * width / S), i
                known = seen & (y["depth"][i, ..., 0] > -1)
                assert code_accuracy(y["depth"][i, ..., 0][known & deep], bright[known & deep]) == 1
                rows = y["pose"][i].reshape(2, 3)       # it looks straight ahead: columns turn with the image
                column = np.polyfit(np.nonzero(seen)[1] * rows[0, 0] - np.nonzero(seen)[0] * rows[1, 0],
                                    uv[..., 0][seen], 1)[0]
                assert column > 0
    assert len(agreed) > 12 and np.mean(agreed) > (0.9 if config.faces_in_image > 1 else 0.97), sorted(agreed)[:9]
    assert np.any(turned) == config.quarters


def bright_side(near: np.ndarray) -> str:
    """Which half of a depth map (S, S) bool is near in the code's first row, 1 0 0 0."""
    row = near[len(near) // 12:len(near) // 5]
    return "left" if row[:, :len(near) // 2].mean() > row[:, len(near) // 2:].mean() else "right"


@pytest.mark.parametrize("jitter, augment", [(True, False), (True, True), (False, True), (False, False)])
def test_depth_lies_under_its_pixels_and_has_the_size_of_the_image(jitter, augment, monkeypatch):
    """Near fields are bright. 30 mm behind the nearest point, seen at 700 mm: 30 f / 700 px deep in f px of focal
    length, which grows as the image is enlarged."""
    monkeypatch.setattr(occluders, "crops", lambda *_: None)        # they change the image, not its depth
    source, size, sides, fractions = map_images(), 64, set(), []
    depth_there = source.arrays["depth"]
    depth_there[np.isnan(depth_there)] = 760        # a wall behind the face, which is none of it
    config = DepthConfig(batch_size=6, validation_subjects=1, image_size=size, jitter=jitter, augment=augment)
    focal = 700.0 * size / S * (286 / 256 if jitter else 1)
    far = 1 - 2 * 30 * focal / 700 / size
    for index in range(3):
        x, y = MapSequence(source, source.subjects, config, True).batch(0, index)
        for image, depth in zip(x, y["depth"][..., 0]):
            known = depth > -1
            near = depth > (1 + far) / 2
            np.testing.assert_allclose(depth[known], np.where(near, 1, far)[known], atol=1e-5)
            fractions.append(code_accuracy(image[known], near[known]))
            sides.add(bright_side(near))
    assert np.mean(fractions) > (0.85 if augment else 0.97)
    assert sides == ({"left", "right"} if jitter else {"left"})


def test_pairs_stay_pairs_and_grow_deeper_as_they_are_enlarged(monkeypatch):
    x0, y0, width, height = FACE_BOX
    image = painted((X - x0) / width, (Y - y0) / height)
    levels = np.where(image[..., 0] == BRIGHT, 255, np.where(image[..., 0] == DARK, 155, 0)).astype(np.uint8)
    monkeypatch.setattr(pair_dataset, "read_pair", lambda pair: (image.copy(), levels.copy()))
    pairs, config = [Pair("a", "a.png", "a_depth.png", 0.6)] * 12, PairConfig(batch_size=12, image_size=S)
    sequence = PairSequence(pairs, config, True)
    x, y = sequence.batch(0, 0)
    first, sides = 1 - 2 * 0.6 * 286 / 256 * 100 / 255, set()
    for crop, depth in zip(x, y["depth"][..., 0]):
        near, known = depth > (1 + first) / 2, depth > -1
        np.testing.assert_allclose(depth[known], np.where(near, 1, first)[known], atol=1e-5)
        assert code_accuracy(crop[known], near[known]) > 0.97
        sides.add(bright_side(near))
    assert sides == {"left", "right"}       # half of them are mirrored
    x, y = PairSequence(pairs, config, False).batch(0, 0)
    assert all(np.array_equal(y["depth"][0], depth) for depth in y["depth"]) and y["depth"][0, 24, 24, 0] == 1


VOLUME = VolumeConfig(batch_size=3, validation_subjects=1, image_size=64, layers=64, empty=0.0)


class Solids(ImageSource):
    """A turned head: its silhouette grey, the right eye's six landmarks white, the left's black, nothing else."""

    def __init__(self) -> None:
        self.model = load_face_model()
        rng = np.random.default_rng(3)
        identity = np.repeat(self.model.sample_identity(rng)[None].astype(np.float32), 4, 0)
        pose = np.array([18.0, -8, 5, 4, -6, 0], np.float32)
        arrays = {"identity": identity, "expression": repeated(np.zeros(84, np.float32), 4),
                  "pose": repeated(pose, 4), "camera": repeated(np.array([200.0, 33, 30, 700], np.float32), 4),
                  "landmarks": repeated(np.zeros((68, 2), np.float32), 4),
                  "images": repeated(np.zeros((64, 64, 3), np.uint8), 4)}
        super().__init__(**arrays)
        from Dataset.geometry.camera import look_at_face
        from Dataset.synthesis.scene import pose_vertices
        head = pose_vertices(self.model.shape(identity[0]), pose)
        seen = look_at_face(64, 700.0, 200.0)._replace(centre=(33.0, 30.0)).project(self.model.landmarks(head))
        self.marks = np.stack([seen.x, seen.y], -1)
        self.arrays["landmarks"][:] = self.marks
        plain = VolumeSequence(self, self.subjects, VOLUME, False)
        self.solid = fill(plain.truth(0, 0)[0], plain._triangles, 64, 64)
        image = np.where(self.solid.any(-1), 128, 20).astype(np.uint8)
        y, x = np.mgrid[:64, :64] + 0.5
        for eye, level in ((slice(36, 42), 255), (slice(42, 48), 40)):
            centre = self.marks[eye].mean(0)
            image[np.hypot((x - centre[0]) * 0.7, y - centre[1]) < 2.6] = level
        self.arrays["images"][:] = image[..., None]


@pytest.mark.parametrize("mirror, photos, size", [(0.0, False, 64), (1.0, False, 64), (1.0, True, 64),
                                                  (1.0, False, 48)])
def test_the_volume_fills_the_silhouette_and_landmarks_know_left_from_right(mirror, photos, size, monkeypatch):
    """Landmarks 36 to 41 are the subject's right eye: in a mirrored image, what was the left one, which is black."""
    monkeypatch.setattr(occluders, "crops", lambda *_: None)        # they may hide both eyes
    source = Solids()
    config = dataclasses.replace(VOLUME, mirror=mirror, photos=photos, rotation=25.0, image_size=size, layers=size)
    sequence = VolumeSequence(source, source.subjects, config, True)
    for index in range(3):
        x, y = sequence.batch(60, index)
        for image, volume, maps in zip(x.mean(-1), y["volume"], y["heat_maps"]):
            assert 0.5 < volume.sum() / source.solid.sum() * (64 / size) ** 3 < 1.8
            filled = volume.any(-1)
            shape = [np.median(image[2:-2, 2:-2][part[2:-2, 2:-2]]) for part in (filled, ~filled)]
            assert shape[0] > shape[1] + 0.1
            if not photos:
                agree = (image > sum(shape) / 2) == filled
                assert agree[2:-2, 2:-2].mean() > 0.93
            row, column = np.unravel_index(maps.reshape(-1, 68).argmax(0), maps.shape[:2])
            marks = 4 * np.stack([column, row], -1) + 2
            right, left = (np.median(pixels(image[..., None], np.clip(marks[eye], 0, size - 1)))
                           for eye in (slice(36, 42), slice(42, 48)))
            assert (right > left + 0.1) == (mirror == 0), (right, left)
            jaw = marks[[0, 8, 16]].astype(float)            # right ear, chin, left ear: their turn never flips
            assert np.linalg.det(np.stack([jaw[1] - jaw[0], jaw[2] - jaw[0]])) < 0


def test_coefficients_project_onto_their_pixels():
    """The decoded pose of the target puts the 16x16 grid where the augmented image shows it."""
    truth = c.mean_face(np.array([0.1, 0.05, 0.1, -0.1, 0.01, 0.0], np.float32))
    points = c.project(truth, "keypoints", S)
    near = cKDTree(points).query(np.stack([X, Y], -1).reshape(-1, 2))
    code = np.where(grid_code(), BRIGHT, DARK)[near[1]]
    image = np.where(near[0] < 6, code, BETWEEN).astype(np.uint8).reshape(S, S, 1).repeat(3, -1)
    source = ImageSource(images=repeated(image), image_points=repeated(points.astype(np.float32)),
                         visible=repeated(np.ones(256, bool)), identity=np.zeros((5, 200), np.float32),
                         expression=repeated(np.zeros(84, np.float32)))
    config = CoefficientConfig(batch_size=6, validation_subjects=1, image_size=64)
    sequence, fractions = CoefficientSequence(source, source.subjects, config, True), []
    for index in range(2):
        x, y = sequence.batch(0, index)
        for crop, numbers in zip(x[..., :3], y):
            keypoints = c.project(numbers, "keypoints", 64)
            used = INNER & ((keypoints > 0) & (keypoints < 64)).all(-1)
            fractions.append(code_accuracy(pixels(crop, keypoints[used]), grid_code()[used]))
    assert np.median(fractions) > 0.95 and np.mean(fractions) > 0.85, sorted(fractions)


def test_the_code_is_of_use():
    """A mirrored or turned target is distinguished from the right one."""
    for other in (CODE[:, ::-1], CODE[::-1], np.rot90(CODE), np.rot90(CODE, -1)):
        assert 0.3 < (other == CODE).mean() < 0.7
    bright, deep = field_of(*(np.array([0.125, 0.5, np.nan, 1.2]), np.array([0.125, 0.5, 0.5, 0.5])))
    assert bright.tolist() == [True, True, False, False] and deep.tolist() == [True, False, False, False]
    assert FIELDS == 4 and code_accuracy(np.array([1.0, 2, 9, 8]), np.array([False, False, True, True])) == 1
