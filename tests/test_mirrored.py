"""Network/readout/mirrored.py: left and right, and what is averaged."""
import numpy as np

from Network.readout.mirrored import averaged, both_ways, mirrored


def field(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.random((3, 256, 2)).astype(np.float32), rng.normal(size=(3, 256)).astype(np.float32)


def turned(keypoints: np.ndarray, log_variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A slow twin: keypoint by keypoint."""
    positions, variance = np.empty_like(keypoints), np.empty_like(log_variance)
    for row in range(16):
        for column in range(16):
            x, y = keypoints[:, row * 16 + column].T
            positions[:, row * 16 + 15 - column] = np.stack([1 - x, y], -1)
            variance[:, row * 16 + 15 - column] = log_variance[:, row * 16 + column]
    return positions, variance


def test_a_network_that_errs_alike_on_both_sides_changes_nothing():
    found = field(np.random.default_rng(0))
    for one, other in zip(averaged(*found, *turned(*found)), found):
        np.testing.assert_allclose(one, other, atol=1e-6)
        assert one.dtype == np.float32


def test_the_mean_of_both():
    rng = np.random.default_rng(1)
    first, second = field(rng), field(rng)
    for one, a, b in zip(averaged(*first, *turned(*second)), first, second):
        np.testing.assert_allclose(one, (a + b) / 2, atol=1e-6)


def test_the_finder_sees_each_image_both_ways_round():
    """The brightest pixel of an image as all its keypoints: the same in both passes."""
    images = np.zeros((2, 8, 8, 3), np.float32)
    images[0, 2, 1], images[1, 5, 6] = 1, 1

    def find(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row, column = np.array([np.argwhere(image[..., 0] == 1)[0] for image in some]).T
        at = np.stack([(column + 0.5) / 8, (row + 0.5) / 8], -1)
        return np.repeat(at[:, None], 256, 1), np.repeat(column[:, None], 256, 1).astype(float)
    keypoints, log_variance = both_ways(find)(images)
    np.testing.assert_allclose(keypoints, np.repeat([[[1.5 / 8, 2.5 / 8]], [[6.5 / 8, 5.5 / 8]]], 256, 1))
    np.testing.assert_allclose(log_variance, 3.5)                        # of columns c and 7 - c
    np.testing.assert_array_equal(mirrored(images)[0, 2], images[0, 2, ::-1])
