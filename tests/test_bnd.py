"""Dataset/sources/bnd.py: BU-4DFE's 83 landmarks, on made files only."""
import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.sources.bnd import read_bnd, to_68
from tests.raw_bu4dfe import bu_points, write_bnd


def face(seed):
    """68 landmarks of a subject with an expression."""
    model, rng = load_face_model(), np.random.default_rng(seed)
    return model.landmarks(model.shape(model.sample_identity(rng), 0.3 * model.sample_expression(rng)))


@pytest.mark.parametrize("seed", range(4))
def test_the_68_come_back_from_the_83(seed):
    truth = face(seed)
    found = to_68(bu_points(truth))
    assert found.index.tolist() == [8, *range(17, 27), 31, 33, 35, *range(36, 68)]
    miss = np.linalg.norm(found.points - truth[found.index], axis=1)
    exact = np.isin(found.index, [8, 17, 21, 22, 26, 31, 35, 36, 39, 42, 45, 48, 54, 60, 64])
    assert miss[exact].max() < 1e-9
    assert miss.mean() < 0.8 and miss.max() < 4.0       # others lie at other fractions of the same lines


def test_the_order_within_a_group_and_the_names_of_the_sides_do_not_matter():
    points, rng = bu_points(face(1)), np.random.default_rng(0)
    mixed = points.copy()
    for a, b in ((0, 8), (8, 16), (16, 26), (26, 36), (42, 48), (48, 60), (60, 68), (68, 83)):
        mixed[a:b] = mixed[a:b][rng.permutation(b - a)]
    mixed = mixed[[*range(8, 16), *range(8), *range(26, 36), *range(16, 26), *range(36, 83)]]
    assert np.allclose(to_68(mixed).points, to_68(points).points)


def test_a_closed_mouth_is_no_tangle():
    """Upper and lower inner lip coincide: each landmark of the lines is still at its fraction of the width."""
    points = bu_points(face(2))
    line = np.linspace(points[60], points[64], 5)
    points[60:68] = line[[0, 1, 2, 3, 4, 3, 2, 1]] + np.random.default_rng(0).normal(0, 1e-6, (8, 3))
    found = to_68(points)
    inner = found.points[np.isin(found.index, range(60, 68))]
    assert np.abs(inner - line[[0, 1, 2, 3, 4, 3, 2, 1]]).max() < 1e-4


def test_read_what_was_written(tmp_path):
    points = bu_points(face(0))
    write_bnd(tmp_path / "000.bnd", points, points)
    assert np.abs(read_bnd(tmp_path / "000.bnd") - points).max() < 1e-6


ROW = "7 1.0 2.0 3.0\n"


@pytest.mark.parametrize("text, rule", [
    ("", "must have 83 rows `index x y z`, this has 0"), (ROW * 82, "83 rows .* this has 82"),
    (ROW * 84, "this has 84"), (ROW * 40 + "7 1 2\n" + ROW * 42, "row 41: must be `index x y z`, got 3 columns"),
    (ROW * 82 + "7 1 nan 3\n", "row 83: landmarks must be finite"), (ROW * 82 + "7 1 x 3\n", "must be numbers"),
    (ROW * 82 + "-1 1 2 3\n", "vertex numbers"), (ROW * 82 + "1.5 1 2 3\n", "vertex numbers"),
    (ROW * 6000, "at most 65536 bytes"), ("\u00e9" * 83, "must be a text file")])
def test_bad_files_are_one_line(tmp_path, text, rule):
    (tmp_path / "a.bnd").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"a\.bnd.*{rule}") as caught:
        read_bnd(tmp_path / "a.bnd")
    assert "\n" not in str(caught.value)


def test_no_file_and_no_face(tmp_path):
    with pytest.raises(ValueError, match="b.bnd: must be a text file of landmarks .FileNotFoundError"):
        read_bnd(tmp_path / "b.bnd")
    points = bu_points(face(3))
    with pytest.raises(ValueError, match="x.bnd: .* the brows do not lie over the eyes"):
        to_68(points * (1, -1, 1), "x.bnd")
    with pytest.raises(ValueError, match="x.bnd: .* nose is not between"):
        to_68(points + np.where(np.arange(83)[:, None] // 12 == 3, (60.0, 0, 0), 0), "x.bnd")
    with pytest.raises(ValueError, match="received shape .68, 3."):
        to_68(points[:68])
