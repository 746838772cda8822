"""Dataset/synthesis/skin.py and Dataset/synthesis/chart.py: paint lies where the mean face's landmarks are."""
from functools import lru_cache

import numpy as np
import pytest

from Dataset.face_model.model import load_face_model
from Dataset.synthesis import skin
from Dataset.synthesis.chart import HEIGHT, WIDTH, Chart, sample_texture

APPEARANCE = skin.sample_appearance(np.random.default_rng(1))._replace(
    melanin=0.1, hair=0.0, hair_style=1, beard=0.0, stubble=0.0, brows=1.0, lips=1.0, freckles=0.0, hairline=0.0)


@lru_cache(maxsize=1)
def chart() -> Chart:
    mean = load_face_model().mean
    return Chart(load_face_model().landmarks(mean), mean[:, 1].min() - 20, mean[:, 1].max() + 12)


@lru_cache(maxsize=4)
def texture(look: skin.Appearance = None) -> np.ndarray:
    return skin.skin_texture(chart(), look or APPEARANCE)


def colour_at(texels, image=None) -> np.ndarray:
    return sample_texture(texture() if image is None else image, np.atleast_2d(np.float32(texels))).mean(0)


def test_chart_places_the_axes():
    middle = chart().texels(np.array([0.0, chart().high, chart().axis + 50]))
    np.testing.assert_allclose(middle, [WIDTH / 2, 0])                       # straight ahead, top
    left = chart().texels(np.array([50.0, chart().low, chart().axis]))
    np.testing.assert_allclose(left, [WIDTH * 0.75, HEIGHT], rtol=1e-5)      # the subject's left, a quarter turn
    azimuth, height = chart().grid()
    point = [np.sin(azimuth[0, 700]) * 60, height[100, 0], chart().axis + np.cos(azimuth[0, 700]) * 60]
    np.testing.assert_allclose(chart().texels(np.array(point)), [700.5, 100.5], atol=1e-3)


def test_texture_lookup_is_bilinear_and_wraps():
    ramp = np.zeros((4, WIDTH, 1), np.float32)
    ramp[..., 0] = np.arange(WIDTH)
    texels = np.array([[10.5, 2], [11.0, 2], [0.0, 2], [WIDTH, 0], [5.25, -9], [5.25, 99]], np.float32)
    np.testing.assert_allclose(sample_texture(ramp, texels)[:, 0],
                               [10, 10.5, (WIDTH - 1) / 2, (WIDTH - 1) / 2, 4.75, 4.75], rtol=0.02)
    assert sample_texture(ramp, np.zeros((0, 2), np.float32)).shape == (0, 1)
    assert sample_texture(ramp, np.full((9001, 2), 3.5, np.float32)).shape == (9001, 1)


def test_features_are_where_the_landmarks_are():
    marks = chart().marks
    cheek = colour_at([0.5 * (marks[2] + marks[31])])
    brow, lip = colour_at(marks[[18, 19, 24, 25]] + [0, 3]), colour_at(0.5 * (marks[51] + marks[62]))
    crown = colour_at([[WIDTH / 2, 30], [WIDTH / 4, 60], [3, 60]])
    assert brow.mean() < 0.5 * cheek.mean()
    assert lip[2] / lip[1] > 1.2 * cheek[2] / cheek[1]        # redder than the cheek
    np.testing.assert_allclose(crown, 0.93 * skin.hair_colour(APPEARANCE) + 0.07 * cheek, atol=0.03)
    assert texture().shape == (HEIGHT, WIDTH, 3) and texture().min() > 0 and texture().max() < 1


def test_same_look_same_bytes_other_seed_other_skin():
    again = skin.skin_texture(chart(), APPEARANCE)
    np.testing.assert_array_equal(texture(), again)
    assert np.abs(skin.skin_texture(chart(), APPEARANCE._replace(seed=APPEARANCE.seed + 1)) - again).max() > 0.01


def test_melanin_darkens_and_a_beard_covers_the_chin():
    shades = [skin.melanin_colour(m).mean() for m in (0, 0.25, 0.5, 0.75, 1)]
    assert (np.diff(shades) < 0).all() and shades[0] > 5 * shades[-1]
    for m in (0, 0.5, 1):
        blue, green, red = skin.melanin_colour(m)
        assert blue < green < red
    bearded = skin.skin_texture(chart(), APPEARANCE._replace(beard=1.0))
    chin = 0.5 * (chart().marks[8] + chart().marks[57])
    assert colour_at(chin, bearded).mean() < 0.6 * colour_at(chin).mean()
    nose = chart().marks[29]
    np.testing.assert_allclose(colour_at(nose, bearded), colour_at(nose), atol=0.02)


def test_eye_has_a_pupil_an_iris_and_a_white():
    def at(degrees):
        angle = np.radians(degrees)
        return skin.eye_albedo(np.array([[np.sin(angle), 0, np.cos(angle)]]), APPEARANCE._replace(iris=4.0))[0]
    assert at(0).max() < 0.01 and at(5).max() < 0.01          # pupil
    assert at(19)[0] > 1.2 * at(19)[2]                        # a blue iris, BGR
    assert at(45).min() > 0.4 and at(26.5).mean() < 0.6 * at(40).mean()      # white; the dark boundary between them


def test_sampled_looks_are_in_range_and_diverse():
    appearance = [skin.sample_appearance(np.random.default_rng(s)) for s in range(300)]
    for name in ("melanin", "redness", "warmth", "oil", "freckles", "lips", "circles", "brows", "beard", "stubble"):
        values = [getattr(look, name) for look in appearance]
        assert 0 <= min(values) and max(values) <= 1, name
    assert {look.hair_style for look in appearance} == {0, 1, 2, 3}
    assert all(0 <= look.hair <= 5 and 0 <= look.iris <= 5 for look in appearance)
    assert np.std([look.melanin for look in appearance]) > 0.2
    assert 0.05 < np.mean([look.beard > 0 for look in appearance]) < 0.35
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(appearance[0].cloth, appearance[1].cloth)
