"""The views that demo.py draws of the coarse network."""
import cv2
import numpy as np
import pytest

from Dataset.fitting.shape_from_shading import front_of_face, refine
from Dataset.io.images import read_image
from Dataset.representations.coefficients import mean_face, project
from Evaluation.views.iterations import CoarseViewWriter, iteration_image

PASSES = np.stack([mean_face(), mean_face(np.array([0.3, 0, 0, 0, 0, -0.1]))])
PHOTO = np.random.default_rng(0).integers(60, 200, (300, 300, 3), np.uint8)


def test_the_passes_are_drawn_and_written_beside_the_face(tmp_path):
    writer = CoarseViewWriter("iterations")
    with pytest.raises(ValueError, match="no view was drawn"):
        writer.write(tmp_path / "me.ply")
    drawn = writer.draw(PHOTO, PASSES)
    np.testing.assert_array_equal(drawn, iteration_image(PHOTO, PASSES))
    path = writer.write(tmp_path / "me.ply")
    assert path == tmp_path / "me_iterations.png"
    np.testing.assert_array_equal(read_image(path), drawn)
    writer.reset()
    assert writer.image is None


def test_detail_is_drawn_of_the_last_pass():
    assert CoarseViewWriter("detail").draw(PHOTO, PASSES).shape == (276, 1280, 3)
    with pytest.raises(ValueError, match="view must be one of iterations, detail"):
        CoarseViewWriter("depth")


def test_the_numbers_of_detail_lie_beside_its_image(tmp_path):
    writer = CoarseViewWriter("detail")
    writer.draw_in(PHOTO, (7, -3, 300, 300), PHOTO, PASSES)
    path = writer.write(tmp_path / "me.ply")
    assert writer.beside(tmp_path / "me.ply") == [tmp_path / "me_detail.npz"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["me_detail.npz", "me_detail.png"] == sorted(
        [path.name, "me_detail.npz"])
    small = cv2.resize(PHOTO, (256, 256), interpolation=cv2.INTER_AREA)
    face = PASSES[-1]
    expected = refine(small, face, front_of_face(face, 256))
    with np.load(tmp_path / "me_detail.npz", allow_pickle=False) as found:
        assert sorted(found.files) == sorted(["normals", "coarse_normals", "relief", "albedo", "shading", "light",
                                              "box"])
        np.testing.assert_allclose(found["normals"], expected.normals, atol=1e-6)
        np.testing.assert_allclose(found["relief"], expected.relief, atol=1e-5)
        np.testing.assert_array_equal(np.isfinite(found["albedo"]), expected.mask)
        assert found["relief"].dtype == np.float32 and list(found["box"]) == [7, -3, 300, 300]
    writer.reset()
    assert writer.beside(tmp_path / "me.ply") == [] == CoarseViewWriter("iterations").beside(tmp_path / "me.ply")


def test_the_front_of_the_face_holds_brows_nose_and_mouth_but_no_ear():
    face = PASSES[1]
    mask = front_of_face(face, 128)
    x, y = project(face, "landmarks", 128).astype(int).T
    inside = mask[y, x]
    assert inside[18:26].all() and inside[27:36].all() and inside[48:60].all()
    assert not inside[:2].any() and not mask[0].any()
    assert 0.15 < mask.mean() < 0.6
