"""Evaluation/reports/volume.py, on the batches that Datagenerator/evaluation_data.py hands it."""
import numpy as np
import pytest

from Datagenerator.evaluation_data import volumes_of
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards
from Evaluation.metrics.landmarks import landmark_nme
from Evaluation.reports.volume import mean_targets, volume_scores, volume_table

SIZE, LAYERS = 48, 52


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    make_shards(out, RenderOptions(subjects=3, images=2, size=SIZE, seed=4, yaw=20, pitch=10, roll=10))
    return out


def test_batches_show_each_image_once(folder):
    batches = list(volumes_of(folder, SIZE, LAYERS, 2)())
    assert [len(images) for images, _ in batches] == [3, 3]
    for images, (volumes, faces, landmarks) in batches:
        assert images.shape == (3, SIZE, SIZE, 3) and volumes.shape == (3, SIZE, SIZE, LAYERS)
        assert faces.shape == (3, 128 ** 2, 3) and landmarks.shape == (3, 68, 3)
    flat = np.concatenate([images for images, _ in batches]).reshape(6, -1)
    assert len(np.unique(flat, axis=0)) == 6
    np.testing.assert_array_equal(flat[0], list(volumes_of(folder, SIZE, LAYERS, 1)())[0][0][0].ravel())
    with pytest.raises(ValueError, match="--images must be 1 to 2"):
        volumes_of(folder, SIZE, LAYERS, 3)


def test_the_truth_is_best_and_a_shift_costs(folder, monkeypatch):
    batches = volumes_of(folder, SIZE, LAYERS, 1)
    known = {image.tobytes(): volume for images, (volumes, _, _) in batches() for image, volume in zip(images, volumes)}

    def numbers(change):
        table = volume_table(batches, lambda images: [change(known[image.tobytes()]) for image in images], "t")
        return {row[0]: row[1:4] for row in table.rows}
    exact = numbers(lambda volume: volume)
    assert exact["iou"][0] == 1 and exact["front"][0] == 0 and exact["nme"][2] == 3
    assert 1.5 * exact["nme"][0] < exact["nme"][1] < 10, exact  # voxels are of 4 mm
    assert 0.3 < exact["iou"][1] < 0.95 and exact["front"][1] > 0.3
    (_, (volumes, faces, landmarks)), = batches()       # one of them, for ICP takes most of the time
    one, moved = (volume_scores(np.roll(volumes[0], by, axis=-1), volumes[0], faces[0], landmarks[0]) for by in (0, 4))
    assert moved.iou < 0.95 and moved.front < 0.02      # along the view: nothing but the position
    assert moved.nme == pytest.approx(one.nme, abs=0.3)
    monkeypatch.setattr("Evaluation.reports.volume.volume_nme", lambda *clouds: 0.0)
    squeezed = numbers(lambda volume: np.repeat(volume[..., ::2], 2, axis=-1)[..., :LAYERS] * 1.0)
    assert squeezed["front"][0] > 0.1
    none = numbers(np.zeros_like)
    assert none["iou"][0] == 0 and np.isnan(none["nme"][0]) and none["nme"][2] == 0


def test_by_hand():
    volume = np.zeros((8, 8, 8), np.float32)
    volume[2:6, 2:6, 2:6] = 1
    half = volume.copy()
    half[..., 4:] = 0
    eyes = np.zeros((68, 3))
    eyes[45, 0] = 1.0
    scores = volume_scores(half, volume, np.random.default_rng(0).random((20, 3)), eyes)
    assert scores.iou == 0.5 and scores.front == 0 and scores.nme > 0
    assert volume_scores(np.zeros_like(volume), np.zeros_like(volume), eyes, eyes).iou == 1
    mean, positions = mean_targets([(None, (np.stack([volume, half]), None, np.stack([eyes, 3 * eyes])))])
    assert mean[3, 3, 3] == 1 and mean[3, 3, 5] == 0.5 and mean[0, 0, 0] == 0
    np.testing.assert_array_equal(positions, 2 * eyes)
    with pytest.raises(ValueError, match="at least one image"):
        mean_targets([])


def test_landmarks_of_networks_that_say_them(folder, monkeypatch):
    monkeypatch.setattr("Evaluation.reports.volume.volume_nme", lambda *clouds: 0.0)      # most of an image's time
    batches = volumes_of(folder, SIZE, LAYERS, 1)
    (images, (volumes, _, landmarks)), = batches()
    flat = landmarks[..., :2]
    side = np.sqrt(np.ptp(flat, axis=1).prod(-1))[:, None, None]

    def rows(marks):
        return {row[0]: row[1:4] for row in volume_table(batches, lambda images: volumes, "t", marks).rows}
    assert "landmarks" not in rows(None)
    found = rows(lambda images: (flat + [0.03, 0.04] * side) / SIZE)["landmarks"]
    floor = np.mean([landmark_nme(flat.mean(0), truth) for truth in landmarks])
    assert found == pytest.approx([5, floor, 3]) and floor > 5
    torn = flat / SIZE
    torn[0] = np.nan                            # a network without a face there
    assert rows(lambda images: torn)["landmarks"] == pytest.approx([0, floor, 2], abs=1e-6)
