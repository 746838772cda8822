"""Datagenerator/augmentation/sheet.py: each step alone changes what it is for, and the collages hold it."""
import cv2
import numpy as np
import pytest

from Datagenerator.augmentation.maps import MapAugmentConfig
from Datagenerator.augmentation.sheet import STEPS, TILE, augmented, collage, main, row_of, sample_of
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards, open_shards


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    full = tmp_path_factory.mktemp("full") / "faces"
    make_shards(full, RenderOptions(subjects=3, images=1, size=64, seed=6, yaw=20, pitch=5, roll=5, detect=0, glasses=0,
                                    buffers=("uv", "mask", "visible_mask")))
    return full, [sample_of(open_shards(full), number) for number in range(3)]


def test_each_step_changes_what_it_is_for(samples):
    found = {name: augmented(samples[1], MapAugmentConfig.off(**fields), 1) for name, fields in STEPS.items()}
    off = augmented(samples[1], MapAugmentConfig.off(), 0)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(off, samples[1]))
    for before, shuffled in zip(samples[1], found["shuffle"]):
        assert np.array_equal(np.sort(before.image, -1), np.sort(shuffled.image, -1))
        assert not np.array_equal(before.image, shuffled.image)
    left = [hidden.visible_mask.sum() / before.visible_mask.sum()
            for before, hidden in zip(samples[1], found["occlusion"])]
    assert max(left) <= 1 and min(left) < 0.9           # one may lie beside the face
    assert all(np.array_equal(hidden.mask, before.mask) for before, hidden in zip(samples[1], found["occlusion"]))
    for name in ("noise", "exposure and gamma"):
        assert all(np.array_equal(a.visible_mask, b.visible_mask) and not np.array_equal(a.image, b.image)
                   for a, b in zip(samples[1], found[name]))


def test_collages(samples):
    sheet = collage([np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30)], 2)
    assert sheet.shape == (2 * TILE, 2 * TILE, 3)
    assert (sheet[0, 0] == 10).all() and (sheet[0, -1] == 20).all() and (sheet[-1, 0] == 30).all()
    assert (sheet[-1, -1] == 255).all()
    image, uv, mask, visible = row_of(samples[1][0])
    inside = samples[1][0].mask
    np.testing.assert_array_equal(image, samples[1][0].image)
    assert (uv[~inside] == 0).all() and (mask[inside] == 255).all() and (mask[~inside] == 0).all()
    row, column = np.argwhere(inside)[len(np.argwhere(inside)) // 2]
    np.testing.assert_allclose(uv[row, column, ::-1][:2] / 255, samples[1][0].uv[row, column], atol=0.003)
    assert visible.shape == image.shape


def test_the_command(samples, tmp_path, capsys):
    full, _ = samples
    assert main([str(full), "-o", str(tmp_path / "out"), "--images", "3"]) == 0
    names = {path.stem for path in (tmp_path / "out").iterdir()}
    assert names == {"original", "rotation", "shuffle", "exposure_and_gamma", "noise", "occlusion", "masks", "all",
                     "steps", "triplets", "augmented_triplets"}
    assert cv2.imread(str(tmp_path / "out" / "steps.jpg")).shape == (TILE, 7 * TILE, 3)
    capsys.readouterr()
    assert main([str(full), "-o", str(tmp_path / "out"), "--images", "2"]) == 2
    assert "--images must be 3 to 64, got 2" in capsys.readouterr().err
