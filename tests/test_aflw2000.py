"""Dataset/sources/aflw2000.py, Evaluation/reports/landmarks.py, `Predictor.landmarks_in` on a made folder of known
truth."""
from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import scipy.io

from Dataset.sources import aflw2000
from Dataset.sources.aflw2000 import read_photo, read_photos
from Evaluation.reports.landmarks import bin_of, folder_table, landmark_error, landmark_table, square_box
from tests.aflw_files import write_folder, write_mat

YAWS = (5.0, -25.0, 40.0, -55.0, 70.0, -80.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aflw") / "AFLW2000"
    return folder, write_folder(folder, YAWS)


def test_a_folder_is_read(made):
    folder, targets = made
    photos = read_photos(folder.parent)         # folders within are looked through, as 300W-LP needs
    assert [photo.path.name for photo in photos] == [f"image{n:05d}.jpg" for n in range(len(YAWS))]
    for photo, truth in zip(photos, targets):
        np.testing.assert_allclose(photo.landmarks, truth.landmarks, atol=1e-9)
        assert photo.yaw == pytest.approx(truth.yaw) and photo.pitch == pytest.approx(math.degrees(0.05))
        assert photo.image().shape == (240, 240, 3)
        low, high = truth.landmarks[:, :2].min(0), truth.landmarks[:, :2].max(0)
        assert photo.box == pytest.approx((*low, *(high - low)))
    assert np.diff(photos[0].landmarks[[36, 45], 0]) > 0        # the subject's right eye is on the left
    nose, ears = photos[0].landmarks[30], photos[0].landmarks[[0, 16]]
    assert nose[2] > ears[:, 2].max()                           # z towards the camera


def test_a_300w_lp_file_has_no_depth(tmp_path):
    marks = np.random.default_rng(0).uniform(10, 90, (68, 2))
    scipy.io.savemat(tmp_path / "a.mat", {"pt2d": marks.T, "Pose_Para": np.zeros((1, 7))})
    photo = read_photo(tmp_path / "a.jpg")
    np.testing.assert_allclose(photo.landmarks[:, :2], marks - 0.5)
    assert np.isnan(photo.landmarks[:, 2]).all()


def test_the_error_by_hand():
    truth = np.zeros((68, 3))
    truth[:, 0], truth[:, 1] = np.linspace(0, 40, 68), np.tile([0.0, 90.0], 34)     # sqrt(40 * 90) = 60
    found = truth.copy()
    found[:, 0] += 3
    assert landmark_error(found[:, :2], truth).flat == pytest.approx(5.0)
    assert math.isnan(landmark_error(found[:, :2], truth).solid)
    found[:, 2] = 7.0                                   # depth from wherever
    assert landmark_error(found, truth) == pytest.approx((5.0, 5.0))
    found[:, 2] = np.where(np.arange(68) % 2, 4.0, -4.0)
    assert landmark_error(found, truth) == pytest.approx((5.0, 100 * 5 / 60))       # 3, 4, 5
    with pytest.raises(ValueError, match="landmarks must be finite"):
        landmark_error(found * np.nan, truth)
    with pytest.raises(ValueError, match=r"\(67, 2\)"):
        landmark_error(found[1:, :2], truth)


def test_bins():
    assert [bin_of(yaw) for yaw in (0, -30, 30.01, 60, -60.5, 89, 120)] == [0, 0, 1, 1, 2, 2, 2]


def test_the_table(made):
    folder, targets = made
    photos, calls = read_photos(folder), []

    def landmarker(image, box):
        number = len(calls)
        calls.append(box)
        if number == 4:
            return None
        side = math.sqrt(np.prod(photos[number].box[2:]))
        return targets[number].landmarks[:, :2] + [0.01 * (number + 1) * side, 0]
    table = landmark_table(photos, landmarker, "made")
    assert calls == [None] * 6
    means = [1.5, 3.5, 6.0]
    flat, solid, count, missed = table.rows
    assert flat[0] == "NME 2D" and flat[1:4] == pytest.approx(means)
    assert flat[4:] == pytest.approx([np.mean(means), np.std(means), (1 + 2 + 3 + 4 + 6) / 5])
    assert all(math.isnan(x) for x in solid[1:])
    assert count == ["photos", 2, 2, 2, None, None, 6] and missed == ["missed", 0, 0, 1, None, None, 1]
    assert "| NME 2D |    1.50 |     3.50 |     6.00 |" in table.markdown()
    received = []
    landmark_table(photos, lambda image, box: received.append(box), "made", boxes="truth")
    assert received == [square_box(photo) for photo in photos]
    for box, photo in zip(received, photos):
        assert box[2] == box[3] and (photo.landmarks[:, :2] > box[:2]).all()
        assert (photo.landmarks[:, :2] < np.add(box[:2], box[2:])).all()
    nobody = folder_table(folder, lambda image, box: None, "blind")
    assert nobody.title.startswith(f"blind on {folder}: 6 photos") and nobody.rows[3][-1] == 6
    assert all(math.isnan(x) for x in nobody.rows[0][1:])
    with pytest.raises(ValueError, match="at least one photo"):
        landmark_table([], landmarker, "none")


def test_landmarks_that_are_not_finite_are_missed(made):
    photos, answers = read_photos(made[0]), [truth.landmarks.copy() for truth in made[1]]
    answers[0][3] = np.nan
    table = landmark_table(photos, lambda image, box, said=iter(answers): next(said), "torn")
    assert table.rows[3] == ["missed", 1, 0, 0, None, None, 1]
    assert table.rows[0][1:4] == pytest.approx([0, 0, 0], abs=1e-6)     # the others' stand


def test_boxes_come_from_the_detector_or_the_truth(made):
    from Dataset.face_model.model import load_face_model
    from Dataset.geometry.transforms import rotation_from_euler, to_unit_sphere
    from Dataset.representations.points import encode, grid_landmarks
    from Network.inference.base import Face
    from Network.inference.photos import Crop
    model = load_face_model()
    grid = to_unit_sphere(encode(model.mean).reshape(-1, 3))[0]
    turned = grid_landmarks(grid) @ rotation_from_euler(30, 5, 0).T
    seen = np.column_stack([0.5 + 0.4 * turned[:, 0], 0.5 - 0.4 * turned[:, 1]])
    crop = Crop(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.uint8), (20, 30, 200, 200), "p", "frontal")
    found = Face(grid.astype(np.float32), crop, landmarks=seen).image_landmarks
    np.testing.assert_allclose(found[:, :2], seen * 200 + [20, 30])
    np.testing.assert_allclose(found[:, 2], 80 * turned[:, 2], atol=0.05)
    for broken in (Face(grid.astype(np.float32), crop, landmarks=seen * np.nan),
                   Face(grid.astype(np.float32) * np.nan, crop, landmarks=seen)):
        assert broken.image_landmarks.shape == (68, 3) and np.isnan(broken.image_landmarks).all()
    assert Face(grid.astype(np.float32), crop).image_landmarks is None


def test_the_network_in_the_box_finds_them(made):
    """A network that never saw these images: far better than landmarks in the middle of the box."""
    from Network import from_preset
    folder, targets = made
    photos = read_photos(folder)[:4]
    find = from_preset("compact").landmarks_in
    table = landmark_table(photos, find, "compact", boxes="truth")
    flat, solid, _, missed = table.rows
    assert missed[-1] == 0
    assert flat[1] < 6 and flat[2] < 8 and solid[1] < 8 and solid[2] < 12, table.text()
    assert find(np.full((64, 64, 3), 128, np.uint8), None) is None


def test_bad_folders_are_named(tmp_path, made, monkeypatch, caplog):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        read_photos(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no photo NAME.jpg with its landmarks NAME.mat"):
        read_photos(tmp_path)
    marks = made[1][0].landmarks
    for name, values, rule in (("shape", {"pt3d_68": np.zeros((3, 67))}, r"must hold pt3d_68 \(3, 68\)"),
                               ("none", {"pt3d_68": np.full((3, 68), np.nan)}, "landmarks and pose must be finite"),
                               ("line", {"pt3d_68": np.ones((3, 68))}, "landmarks must not lie on one line"),
                               ("text", {"pt3d_68": "face"}, "no MATLAB .*pt3d_68 must be an array of numbers, is"),
                               ("pose", {"Pose_Para": np.zeros((1, 6))}, r"must hold Pose_Para \(1, 7\)")):
        write_mat(tmp_path / f"{name}.mat", marks, 0, **values)
        with pytest.raises(ValueError, match=f"{tmp_path / name}.mat: {rule}"):
            read_photo(tmp_path / f"{name}.jpg")
    for name, data in (("empty", b""), ("noise", bytes(range(256)) * 9), ("half", (made[0] / "image00000.mat")
                                                                          .read_bytes()[:300])):
        (tmp_path / f"{name}.mat").write_bytes(data)
        with pytest.raises(ValueError, match=f"{tmp_path / name}.mat: "):
            read_photo(tmp_path / f"{name}.jpg")
    monkeypatch.setattr(aflw2000, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="at most 10 bytes"):
        read_photo(made[0] / "image00000.jpg")
    monkeypatch.undo()
    cv2.imwrite(str(made[0].parent / "alone.jpg"), np.zeros((9, 9, 3), np.uint8))
    assert len(read_photos(made[0].parent)) == len(YAWS) and "1 of 7 photos have no .mat" in caplog.text
    (made[0].parent / "alone.jpg").unlink()
