"""Network/fit_together.py: true places and landmarks of photos give the person; the weights in the box give a pose."""
import numpy as np
import pytest

from Dataset.face_model import load_face_model
from Dataset.renders import RenderOptions, render_person
from Dataset.scene import Stage
from Dataset.transforms import rotation_from_euler
from Network.fit_together import SIDE, correspondences_of, fit_together
from Network.loading import DEFAULT_MODEL, load_model
from Network.predict import Crop, Prediction
from Network.streaming import make_stream
from tests.seen import squared_error

MODEL = load_face_model()


@pytest.fixture(scope="module")
def person():
    options = RenderOptions(people=1, images=6, size=128, seed=91, yaw=30, pitch=12, roll=10, detect=0, wild=0,
                            glasses=0)
    return render_person(0, options, Stage(MODEL, threads=1))


def crop(image: np.ndarray, number: int) -> Crop:
    return Crop(image, image, (0, 0, 128, 128), f"photo {number}", "frontal")


def answers(person, places: bool = True, landmarks: bool = True) -> list[Prediction]:
    """What a network would say that knows it; in sides of the crop."""
    return [Prediction(np.zeros((4, 3)), [crop(person["images"][k], k)],
                       (person["image_points"][k] / 128).astype(np.float32) if places else None, None, None,
                       (person["landmarks"][k] / 128).astype(np.float32) if landmarks else None) for k in range(6)]


def turned(fit, person, photo: int) -> float:
    """Degrees between the fitted and the true rotation."""
    true = rotation_from_euler(*person["pose"][photo][:3])
    return np.degrees(np.arccos(np.clip((np.trace(fit.rotations[photo].T @ true) - 1) / 2, -1, 1)))


@pytest.mark.parametrize("says, worst", [({}, 0.6), ({"landmarks": False}, 0.6), ({"places": False}, 0.9)])
def test_the_person_and_the_poses(says, worst, person):
    fit = fit_together(answers(person, **says))
    assert squared_error(MODEL, fit.identity, person["identity"]) < worst
    assert max(turned(fit, person, k) for k in range(6)) < 5
    miss = np.linalg.norm(fit.landmarks(2) - person["landmarks"][2], axis=1)
    assert np.median(miss) < 1.5                                        # px of 128


def test_what_is_said_is_what_is_fitted(person):
    both, places, marks = (correspondences_of(answers(person, **says)[0])
                           for says in ({}, {"landmarks": False}, {"places": False}))
    assert [len(part.weights) for part in (both, places, marks)] == [324, 256, 68] and both.size == SIDE
    np.testing.assert_allclose(both.pixels, np.concatenate([places.pixels, marks.pixels]))
    np.testing.assert_allclose(places.pixels, person["image_points"][0], atol=1e-4)
    np.testing.assert_allclose(places.grid[[0, 15, 240]], [[0, 0], [0, 127], [127, 0]])
    assert marks.weights[0] < marks.weights[30]                         # the jaw's are less exact
    with pytest.raises(ValueError, match="photo 3: the network does not say where the face's places lie"):
        correspondences_of(answers(person, False, False)[3])
    with pytest.raises(ValueError, match="at least one photo"):
        fit_together([])


def test_the_weights_in_the_box(person):
    stream = make_stream(load_model(DEFAULT_MODEL))
    fit = fit_together([stream.add(crop(image, k)) for k, image in enumerate(person["images"])])
    assert np.median([turned(fit, person, k) for k in range(6)]) < 8
    assert squared_error(MODEL, fit.identity, person["identity"]) < 1.2
