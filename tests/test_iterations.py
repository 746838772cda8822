"""Error after each pass, and the figure with one row a pass."""
import numpy as np
import pytest

from Dataset.representations import coefficients as c
from Evaluation.reports.iterations import errors_of, iteration_table
from Evaluation.views.epoch_images import coefficient_tiles
from Evaluation.views.iterations import iteration_image


def face(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = c.mean_face()
    out[c.IDENTITY] = rng.normal(0, 1, 200)
    out[c.POSE] += rng.normal(0, 0.05, 6).astype(np.float32)
    return out


def test_errors_by_hand():
    truth = face(0)
    same = errors_of(truth[None], truth[None])
    assert {name: values[0] for name, values in same.items()} == pytest.approx(
        {"vertices": 0, "aligned": 0, "landmarks": 0, "angle": 0}, abs=2e-2)
    moved = truth.copy()
    moved[284] += np.radians(10)
    moved[288] += 0.05
    shifted = truth.copy()
    shifted[288] += 0.05
    both = errors_of(np.stack([moved, shifted]), np.stack([truth, truth]))
    np.testing.assert_allclose(both["angle"], [10, 0], atol=1e-2)
    marks = c.project(truth, "landmarks")
    np.testing.assert_allclose(both["landmarks"][1], 5 / np.sqrt(np.ptp(marks, axis=0).prod()), rtol=1e-4)
    larger = truth.copy()
    larger[c.IDENTITY] *= 2
    found = errors_of(larger[None], truth[None])
    apart = c.vertices(larger) - c.vertices(truth)
    assert found["vertices"][0] == pytest.approx(np.linalg.norm(apart, axis=1).mean(), rel=1e-4)
    assert 0 < found["aligned"][0] < found["vertices"][0]


def run(images: np.ndarray, poses: np.ndarray | None) -> np.ndarray:
    """Two passes, each half of the way to the truth, which the images' first pixel names."""
    targets = np.stack([face(int(round(float(x)))) for x in images[:, 0, 0, 0]])
    faces = [np.stack([c.mean_face(None if poses is None else poses[i]) for i in range(len(images))])]
    for _ in range(2):
        faces.append((faces[-1] + targets) / 2)
    return np.stack(faces)


def test_the_table_halves_where_the_network_goes_halfway():
    images = np.zeros((3, 8, 8, 3), np.float32)
    images[:, 0, 0, 0] = [1, 2, 3]
    targets = np.stack([face(k) for k in (1, 2, 3)])
    table = iteration_table(run, [(images[:2], targets[:2]), (images[2:], targets[2:])], "made")
    rows = {name: [row[i] for row in table.rows] for i, name in enumerate(table.columns)}
    assert rows["passes"] == [0, 1, 2] and "3 images" in table.title
    for name in ("vertices", "vertices, true pose"):
        np.testing.assert_allclose(rows[name], np.array([1, 0.5, 0.25]) * rows[name][0], rtol=1e-4)
    assert rows["change"][0] is None and rows["change"][1] > rows["change"][2] > 0
    assert table.text() and table.csv().startswith("passes,vertices")


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="at least one image is needed"):
        iteration_table(run, [], "none")


def test_the_image_has_a_row_for_each_face():
    photo = np.full((50, 50, 3), 90, np.uint8)
    image = iteration_image(photo, np.stack([c.mean_face(), face(1)]))
    assert image.shape == (440, 1000, 3) and image.dtype == np.uint8
    assert (image[20:220, :200] == 90).all() and (image[20, 800] == 90).all()       # the photo, and beside the face
    middle = image[20 + 100, 200 + 100]
    assert middle[0] > middle[1] and middle[0] > middle[2]              # PNCC: the nose is foremost, z is blue
    assert np.abs(image[20:220, 200:].astype(int) - image[240:440, 200:]).mean() > 1


def test_a_training_sample_is_drawn_with_its_estimate_truth_and_answer():
    from Dataset.representations.pncc import built_in_unit
    estimate, truth = built_in_unit()(c.mean_face(), 32), face(1)
    x = np.concatenate([np.full((32, 32, 3), 0.25, np.float32), estimate], -1)
    tiles = dict(coefficient_tiles(x, truth, truth))
    assert list(tiles) == ["input", "estimate: PNCC", "its normals", "truth", "prediction"]
    assert (tiles["input"] == 0.25).all()
    np.testing.assert_array_equal(tiles["estimate: PNCC"], estimate[..., 2::-1])
    np.testing.assert_array_equal(tiles["its normals"], estimate[..., :2:-1])   # x, y, z are red, green, blue
    np.testing.assert_array_equal(tiles["truth"], tiles["prediction"])
    assert list(dict(coefficient_tiles(x[..., :3], truth, truth))) == ["input", "truth", "prediction"]
