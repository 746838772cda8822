"""Fits whose numbers have limits keep to them: weights of expressions, sizes, stiffness; and a crop keeps its shape."""
import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from Datagenerator.augmentation.pair_jitter import pair_jitter
from Dataset.face_model.expressions import sample_expression
from Dataset.face_model.model import load_face_model
from Dataset.fitting import depth_fit, scan_fit as fitting
from Dataset.fitting.multi_view import FitOptions, joint_fit
from Dataset.fitting.nonrigid_icp import stiffness
from Dataset.geometry.pose import Pose
from Dataset.geometry.scan_surface import Nearest
from Dataset.geometry.transforms import Similarity, rotation_from_euler
from Dataset.representations import points
from Dataset.representations.correspondences import Correspondences


class Known:
    """A surface of which it is known where each point of the face lies."""

    def __init__(self, positions: np.ndarray, normals: np.ndarray) -> None:
        self.positions, self.normals = positions, normals

    def nearest(self, query: np.ndarray) -> Nearest:
        return Nearest(self.positions, self.normals, np.linalg.norm(query - self.positions, axis=1),
                       np.zeros(len(query), bool))


def test_a_fit_to_a_scan_keeps_expressions_within_0_and_1():
    """A jaw that is open twice as wide as the model's, and a smile less than none."""
    model = load_face_model()
    bases, count = fitting._bases(model, fitting.COARSE), len(model.identity)
    weights = np.zeros(len(bases.basis), np.float32)
    names = list(model.expression_names)
    weights[count + names.index("jawOpen")] = 2.0
    weights[count + names.index("mouthSmileLeft")] = -1.0
    positions = fitting._shape(bases, weights)
    a, b, c = np.moveaxis(positions[bases.triangles], 1, 0)
    normals = np.zeros(positions.shape)
    for corner in range(3):
        np.add.at(normals, bases.triangles[:, corner], np.cross(b - a, c - a))
    surface = Known(positions, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9))
    pose, found = Similarity.identity(), np.zeros(len(weights), np.float32)
    for _ in range(4):
        pose, found = fitting._round(surface, bases, pose, found, np.arange(count, len(weights)), count, 20.0, None)
        assert found[count:].min() >= 0 and found[count:].max() <= 1
    assert found[count + names.index("jawOpen")] > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_a_joint_fit_keeps_expressions_within_0_and_1(seed):
    """Units at twice their largest and below none."""
    model, rng = load_face_model(), np.random.default_rng(seed)
    expression = np.zeros(84)
    expression[rng.permutation(84)[:12]] = rng.choice([-1.5, 2.0], 12)
    cells = rng.permutation(256)[:120]
    positions = np.stack(np.divmod(cells, 16), 1) * 8 + rng.integers(1, 7, (len(cells), 2))
    grid = points.encode(model.shape(np.zeros(200), expression))[positions[:, 0], positions[:, 1]]
    pose = Pose(rotation_from_euler(10.0, -5.0), 0.7, np.array([60.0, 66.0]), 1 / 600)
    photo = Correspondences(positions.astype(float), pose.project(grid), np.full(len(cells), 4.0), 128)
    found = joint_fit([photo], model, FitOptions(components=5, correlation=0, expression_sigma=1.0, robust=np.inf))
    assert found.expressions.min() >= 0 and found.expressions.max() <= 1
    assert (found.expressions > 0.99).any()


def test_a_depth_maps_size_is_a_faces():
    """A surface three times, or a third of, the mean face's size: the size stays within SIZES."""
    model = load_face_model()
    grid = points.decode(points.encode(model.mean, 32, model))
    for size in (3.0, 0.3):
        tree = cKDTree(grid * size)

        class Scaled:
            def nearest(self, query, tree=tree):
                distance, index = tree.query(query)
                return Nearest(tree.data[index], np.zeros_like(query), distance, np.zeros(len(query), bool))
        found = depth_fit._sized(Similarity(size, np.eye(3), np.zeros(3)), Scaled(), model)
        assert depth_fit.SIZES[0] <= found.scale <= depth_fit.SIZES[1]
        assert found.scale == pytest.approx(depth_fit.SIZES[int(size > 1)], rel=0.03)


def test_a_membrane_is_nowhere_stiffer_than_five_nor_softer_than_a_fifth():
    area, matrix = stiffness(load_face_model())
    sides = -(matrix - sparse.diags(matrix.diagonal())).tocoo()
    sides = sides.data[sides.data != 0]
    assert len(sides) == 4 * 128 * 127
    assert sides.min() == pytest.approx(0.2) and sides.max() == pytest.approx(5.0) and area.mean() == pytest.approx(1)


def test_expressions_that_go_both_ways_are_within_0_and_1():
    """Normal numbers whose third standard deviation is weight 1: of 4,000 about eleven would be beyond."""
    names = tuple(f"unit{i}{sign}" for i in range(4000) for sign in "+-")
    weights = sample_expression(names, np.random.default_rng(0), 1.0)
    assert weights.min() == 0 and weights.max() == 1 and (weights == 1).sum() > 3
    assert sample_expression(names, np.random.default_rng(0), 0.5).max() == 0.5


@pytest.mark.parametrize("shape", [(40, 96), (96, 40)])
def test_pairs_that_are_not_square_are_enlarged_alike(shape):
    rows, columns = np.mgrid[:shape[0], :shape[1]].astype(np.float32)
    image = np.stack([columns, rows, columns], -1)
    for seed in range(4):
        moved, across, down = pair_jitter(image, columns, rows, rng=np.random.default_rng(seed))
        assert moved.shape == image.shape
        assert np.abs(moved[..., 0] - across).max() < 1.01 and np.abs(moved[..., 1] - down).max() < 1.01
