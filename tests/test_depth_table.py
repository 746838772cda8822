"""Evaluation/reports/depth.py and the batches that Datagenerator/evaluation_data.py hands it."""
import numpy as np
import pytest

from Datagenerator.evaluation_data import depths_of
from Dataset.synthesis.renders import RenderOptions
from Dataset.synthesis.shards import make_shards
from Evaluation.reports.depth import depth_table, mean_depth


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    make_shards(out, RenderOptions(subjects=3, images=2, size=32, seed=4, buffers=("depth", "visible_mask")))
    return out


def test_batches_show_each_image_once(folder):
    batches = list(depths_of(folder, 32, 2)())
    assert sum(len(images) for images, _ in batches) == 6 and batches[0][1]["depth"].shape[1:] == (32, 32, 1)
    flat = np.concatenate([images for images, _ in batches]).reshape(6, -1)
    assert len(np.unique(flat, axis=0)) == 6
    with pytest.raises(ValueError, match="--images must be 1 to 2"):
        depths_of(folder, 32, 3)


def test_truth_has_no_error_a_shift_is_taken_away_and_a_slope_is_not(folder):
    batches = depths_of(folder, 32, 2)
    known = {images.tobytes(): maps["depth"] for images, maps in batches()}

    def numbers(change):
        table = depth_table(batches, lambda images: change(known[images.tobytes()]), "t")
        return {row[0]: row[1:4] for row in table.rows}
    exact = numbers(lambda depth: depth)
    assert exact["mae"][0] == 0 and exact["rmse"][0] == 0 and exact["coverage"][0] == 1 and exact["mae"][2] == 6
    assert exact["mae"][1] > 1 and 0 < exact["coverage"][1] < 1                     # the mean map's
    shifted = numbers(lambda depth: np.where(depth > -0.9, depth - 0.1, depth))
    assert shifted["mae"][0] < 1e-3
    # 0.1 of a range of [-1, 1] that is a side of the image deep, some 200 mm: nothing is removed here
    assert exact["mae_of_face"][0] == 0 and 7 < shifted["mae_of_face"][0] < 13
    gone = numbers(lambda depth: np.full_like(depth, -1))
    assert gone["mae_of_face"][0] > 100 and np.isnan(gone["mae"][0])
    flat = numbers(lambda depth: np.where(depth > -0.9, 0.5, depth))
    assert flat["mae"][0] > 1


def test_mean_depth_by_hand():
    values = np.full((3, 1, 2, 1), -1.0, np.float32)
    values[:2, 0, 0], values[0, 0, 1] = [[0.5], [0.7]], 0.5         # mm: 800 + 100 (1 - value); one of three beside it
    found = mean_depth([(np.zeros((3, 1, 2, 3)), {"depth": values})])
    np.testing.assert_allclose(found[0], [840, np.nan], atol=1e-3)
    with pytest.raises(ValueError, match="at least one image"):
        mean_depth([])
