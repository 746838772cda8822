"""Dataset/attributes.py: what was rendered is what is drawn again. Evaluation/reports/strata.py: numbers by hand."""
import math

import numpy as np
import pytest

from Dataset import attributes as drawn
from Dataset.attributes import IMAGE_ATTRIBUTES, SUBJECT_ATTRIBUTES, image_attributes, subject_attributes
from Dataset.face_model.model import load_face_model
from Dataset.synthesis import renders
from Dataset.synthesis.glasses import CLEAR, NONE
from Dataset.synthesis.render_workers import render_context
from Dataset.synthesis.renders import RenderOptions, image_choices, render_subject, subject_choices
from Dataset.synthesis.scene import SceneSubject
from Dataset.synthesis.shards import make_shards, open_shards
from Dataset.synthesis.skin import melanin_colour, melanin_of
from Evaluation.reports.options import parse
from Evaluation.reports.strata import COLUMNS, SystemErrors, strata_table

MODEL = load_face_model()


def test_the_choices_are_those_of_the_images(monkeypatch):
    """A subject is rendered with exactly what is drawn again: identity, appearance, every setting of the view."""
    options = RenderOptions(subjects=2, images=3, size=16, seed=11, detect=0.0, glasses=0.5)
    views, looks = [], []

    class Spy(SceneSubject):
        def __init__(self, context, identity, appearance, *more):
            looks.append((identity, appearance))
            super().__init__(context, identity, appearance, *more)

        def set(self, view):
            views.append(view)
            return super().set(view)
    monkeypatch.setattr(renders, "SceneSubject", Spy)
    arrays = render_subject(1, options, render_context())
    identity, appearance = subject_choices(1, options, MODEL)
    np.testing.assert_array_equal(identity, arrays["identity"])
    assert repr(looks[0][1]) == repr(appearance)
    assert len(views) == 3
    for image, view in enumerate(views):
        again, detect, _ = image_choices(1, image, options, MODEL)
        assert repr(again) == repr(view) and not detect
        np.testing.assert_array_equal(arrays["pose"][image], again.pose)
        np.testing.assert_array_equal(arrays["expression"][image], again.expression)


class Held:
    """Shards that hold nothing but settings."""

    def __init__(self, names: tuple[str, ...] = (), **options) -> None:
        self.settings = RenderOptions(**{"subjects": 400, "images": 4, "seed": 5, **options})
        self.subjects, self.names = np.arange(self.settings.subjects), names


def test_every_value_occurs_and_is_a_known_one():
    held = Held(glasses=0.5)
    found = [{**subject_attributes(held, p), **image_attributes(held, p, 0)} for p in range(200)]
    for name, values in {**IMAGE_ATTRIBUTES, **SUBJECT_ATTRIBUTES}.items():
        counts = [sum(one.get(name) == value for one in found) for value in values]
        assert sum(counts) == (0 if name == "hidden" else 200), name       # without buffers nothing is known of it
        assert name == "hidden" or min(counts) >= 3, (name, counts)
    assert all(one["sex"] == "man" for one in found if one["beard"] != "none")
    assert subject_attributes(held, 3) == subject_attributes(held, 3)


def test_values_follow_the_choices():
    held = Held(glasses=1.0)
    view = image_choices(7, 1, held.settings, MODEL)[0]
    assert image_attributes(held, 7, 1)["glasses"] == ("clear" if view.glasses == CLEAR else "dark")
    assert image_attributes(Held(glasses=0.0), 7, 1)["glasses"] == "none"
    assert image_choices(7, 1, Held(glasses=0.0).settings, MODEL)[0].glasses == NONE
    front = view._replace(pose=np.zeros(6, np.float32), light_direction=np.array([0, 0, 1.0]),
                          light_colour=np.full(3, 0.6), light_ambient=np.zeros((9, 3)))
    assert drawn.lamp_angle(front) == 0 and drawn.brightness(front) == pytest.approx(0.6)
    turned = front._replace(pose=np.array([60, 0, 0, 0, 0, 0], np.float32))
    assert drawn.lamp_angle(turned) == pytest.approx(60) and drawn.brightness(turned) == pytest.approx(0.3)
    constant = np.zeros((9, 3))
    constant[0] = 0.4 / 0.282095                                    # an even environment of radiance 0.4
    assert drawn.brightness(turned._replace(light_ambient=constant)) == pytest.approx(0.7, abs=1e-6)


def test_tone_is_that_of_the_drawn_skin():
    for melanin in (0.1, 0.5, 0.9):
        assert melanin_of(melanin_colour(melanin)) == pytest.approx(melanin, abs=0.01)
    held = Held(skins=1.0)
    context, differ = render_context(), 0
    for p in range(3):
        _, appearance = subject_choices(p, held.settings, MODEL)
        drawn_skin = SceneSubject(context, np.zeros(200), appearance, 1.0)
        value = float(melanin_of(drawn_skin.tone))
        assert subject_attributes(held, p)["skin tone"] == SUBJECT_ATTRIBUTES["skin tone"][int(3 * min(value, 0.999))]
        differ += abs(value - appearance.melanin) > 0.02
    assert differ                                                   # photographs have tones of their own
    assert subject_attributes(Held(texture="grey"), 0) == {}


def test_hidden_is_counted_in_the_pixels(tmp_path):
    make_shards(tmp_path / "s", RenderOptions(subjects=1, images=2, size=32, seed=3, detect=0.0,
                                              buffers=("uv", "visible_mask")))
    shards = open_shards(tmp_path / "s")
    uv, seen = (shards.gather(name, [0], [0])[0] for name in ("uv", "visible_mask"))
    face = np.isfinite(uv[..., 0])
    assert not seen[~face].any()
    fraction = 1 - seen.sum() / face.sum()
    limits = np.searchsorted(drawn.HIDDEN, fraction)
    assert image_attributes(shards, 0, 0)["hidden"] == IMAGE_ATTRIBUTES["hidden"][limits]


def labels(subject: int, image: int) -> dict[str, str]:
    return {"sex": "man" if subject == 2 else "woman", "yaw": IMAGE_ATTRIBUTES["yaw"][image]}


def test_the_numbers_by_hand():
    """Three subjects, two photos; the system is half as wrong, but for subject 2, and finds no face in 2/1."""
    mean = SystemErrors("mean face", {f"{p}/{k}": 2.0 + p for p in range(3) for k in range(2)},
                        {"0": 1.0, "1": 2.0, "2": 3.0}, frozenset())
    ours = SystemErrors("ours", {name: (4.5 if name == "2/0" else error / 2) for name, error in mean.photos.items()},
                        {"0": 0.5, "1": 0.5, "2": 6.0}, frozenset({"2/1"}))
    table = strata_table([mean, ours], labels, "made")
    rows = {tuple(row[:3]): dict(zip(COLUMNS, row)) for row in table.rows}
    assert list(rows) == [("sex", value, system) for value in ("woman", "man") for system in ("mean face", "ours")] + [
        ("yaw", value, system) for value in ("up to 30", "30 to 60") for system in ("mean face", "ours")]
    women, man = rows["sex", "woman", "ours"], rows["sex", "man", "ours"]
    assert (women["photos"], women["subjects"]) == (4, 2) and women["error"] == pytest.approx(1.25)
    assert women["ratio to the mean face"] == pytest.approx(0.5) and women["worse than the mean face, %"] == 0
    assert women["subject: error"] == pytest.approx(0.5)
    assert women["subject: ratio to the mean face"] == pytest.approx(0.5 / 1.5)
    assert 1.0 <= women["low"] <= 1.25 <= women["high"] <= 1.5 and women["no face"] == 0
    assert man["error"] == pytest.approx((4.5 + 2) / 2) and man["worse than the mean face, %"] == 50
    assert man["no face"] == 1 and man["low"] == man["high"]
    floor = rows["sex", "man", "mean face"]
    assert floor["ratio to the mean face"] == 1 and math.isnan(floor["worse than the mean face, %"])
    side = rows["yaw", "30 to 60", "ours"]
    assert side["photos"] == 3 and math.isnan(side["subjects"]) and side["error"] == pytest.approx((1 + 1.5 + 2) / 3)


def test_what_was_not_scored_is_left_out():
    mean = SystemErrors("mean face", {"0/0": 1.0, "1/0": 3.0}, {"0": 1.0, "1": 1.0}, frozenset())
    ours = SystemErrors("ours", {"1/0": 1.5}, {}, frozenset())
    table = strata_table([mean, ours], lambda p, k: {"sex": "man"}, "made")
    row = dict(zip(COLUMNS, table.rows[1]))
    assert row["photos"] == 2 and row["ratio to the mean face"] == 0.5 and math.isnan(row["subject: error"])


def test_the_option(capsys):
    assert parse("x", ["--compare", "--strata"]).strata and parse("x", ["--compare"]).compare_seed == 9001
    for words, rule in ((["--data", "D", "--model", "M", "--strata"], "--strata is of --compare"),
                        (["--pairs", "P"], "--pairs needs --model"), (["--scans", "P"], "--scans needs --model"),
                        (["--pairs", "P", "--scans", "S", "--model", "M"], "--pairs and --scans are two evaluations")):
        with pytest.raises(SystemExit):
            parse("x", words)
        assert rule in capsys.readouterr().err
