"""The names that the thesis's listings import (appendix B), with their arguments."""
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from Dataset.geometry.transforms import Similarity
from Evaluation.evaluate_predictions import apply_homogenous_tform
from Network.facedetect import find_faces
from Network.mobile3model import relu6


def test_find_faces_takes_the_path_of_the_cascade():
    from Dataset.io.inputs import example_image
    image = example_image().image
    plain = find_faces(image)
    named = find_faces(image, "Network/res/haarcascade_frontalface_default.xml")       # the listing's default
    assert len(named) == len(plain) >= 1 and all(np.array_equal(a, b) for a, b in zip(named, plain))
    with pytest.raises(ValueError, match="must be a face cascade"):
        find_faces(image, "Network/res/none.xml")


def test_relu6():
    x = np.array([-1.0, 0.0, 2.5, 6.0, 7.0], np.float32)
    np.testing.assert_array_equal(np.asarray(relu6(x)), [0, 0, 2.5, 6, 6])


def test_apply_homogenous_tform():
    rotation = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    move = Similarity(1.5, rotation, np.array([1.0, -2.0, 3.0]))
    points = np.random.default_rng(0).normal(size=(7, 3))
    found = apply_homogenous_tform(move.matrix(), points)
    slow = [(move.matrix() @ np.append(point, 1))[:3] for point in points]
    np.testing.assert_allclose(found, slow, atol=1e-12)
    np.testing.assert_allclose(found, move.apply(points), atol=1e-12)
    with pytest.raises(ValueError, match=r"transform must be \(4, 4\), got \(3, 3\)"):
        apply_homogenous_tform(np.eye(3), points)


def test_the_listings_generator(tmp_path):
    from Datagenerator.dataset import LSTMDataset_V3, LSTMDataSet_V3
    from tests.tiny_runs import write_subjects
    folder = write_subjects(tmp_path / "data")          # 10 subjects, 4 images of 32 px, 256 points
    with pytest.raises(ValueError, match="image_size 32|32"):
        LSTMDataset_V3(str(folder), images=2, batch_size=3, N=256)[0]       # its images are of 256 px
    assert LSTMDataSet_V3 is LSTMDataset_V3
    small = LSTMDataset_V3(str(folder), images=2, batch_size=3, norm=False, N=256)
    assert len(small) == 10 * 2 * 5 // 3                # 5 shuffles, 2 groups each; what is left over is left out
    assert small.config.normalisation == "origin" and small.config.points == 256 and small.epoch == 0
    first = small.groups(small.epoch)
    small.on_epoch_end()
    assert small.epoch == 1 and not np.array_equal(first.images, small.groups(small.epoch).images)
