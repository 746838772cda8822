"""Photo by photo: equal to the batch, whatever the memory; constant in what it holds."""
import dataclasses
import gc
import tracemalloc
from pathlib import Path

import keras
import numpy as np
import pytest

from Network import mobile3model
from Network.inference.photos import NoFace, square_crop
from Network.inference.registry import predictor_of
from Network.models import compact
from Network.engine.loaded import Loaded
from tests.keypoint_models import stand_in_folder
from tests.test_compact import TINY

TINY_THESIS = mobile3model.Config(image_size=32, points=64, lstm_filters=(4, 4), lstm_strides=(2, 2),
                                  block_filters=(4, 6), block_strides=(1, 2), block_expansion=(1, 2),
                                  block_repeats=(1, 1), link_filters=(6,), decoder_filters=(6, 4, 4), shape_head=3)


def _loaded(network, config, images=None):
    keras.utils.set_random_seed(0)
    name = "compact" if network is compact else "convlstm"
    model = network.build(dataclasses.replace(config, images=images))
    points, source = (16384, stand_in_folder()) if network is compact else (64, Path("run"))
    return Loaded(model, {"network": name, "model": dataclasses.asdict(config)}, source, points, 32, images, "grid")


def _crops(count, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return [square_crop(image, 32, f"{i}.png") for i, image in enumerate(images)]


def _inputs(predictor, crops):
    return predictor.inputs([crop.image for crop in crops])[None]


@pytest.mark.parametrize("network, config", [(compact, TINY), (mobile3model, TINY_THESIS)])
def test_stream_equals_the_batch(network, config):
    loaded = _loaded(network, config)
    stream, crops = predictor_of(loaded), _crops(6)
    for count, crop in enumerate(crops, start=1):
        face = stream.add(crop)
        np.testing.assert_allclose(face.points, stream.predict(_inputs(stream, crops[:count]))[0], atol=1e-5)
    assert stream.count == 6
    stream.reset()
    assert stream.count == 0 and stream.face is None
    np.testing.assert_allclose(stream.add(crops[0]).points, stream.predict(_inputs(stream, crops[:1]))[0], atol=1e-5)


def test_prefixes_are_the_stream():
    stream, crops = predictor_of(_loaded(compact, TINY)), _crops(5)
    faces = stream.prefixes([crop.photo for crop in crops])
    stream.reset()
    for t, crop in enumerate(crops):
        np.testing.assert_array_equal(faces[t], stream.add(crop).points)
    np.testing.assert_array_equal(stream.subject([crop.photo for crop in crops]), faces[-1])


@pytest.mark.slow
def test_a_thousand_images_hold_no_more_than_ten():
    stream, crops = predictor_of(_loaded(mobile3model, TINY_THESIS)), _crops(10)
    tracemalloc.start()
    for number in range(1000):
        face = stream.add(crops[number % 10])
        if number == 99:
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert stream.count == 1000 and np.isfinite(face.points).all()
    assert after - before < 100_000         # bytes; a kept face is 768, its states 640: 900 would be over a million


def test_what_cannot_stream_runs_again():
    assert not predictor_of(_loaded(mobile3model, TINY_THESIS, images=2)).carries_states
    stream, crops = predictor_of(_loaded(mobile3model, TINY_THESIS)._replace(config={})), _crops(3)
    assert not stream.carries_states
    for count, crop in enumerate(crops, start=1):
        np.testing.assert_allclose(stream.add(crop).points, stream.predict(_inputs(stream, crops[:count]))[0],
                                   atol=1e-6)
    stream.reset()
    assert stream.count == 0


@pytest.mark.parametrize("network, config", [(compact, TINY), (mobile3model, TINY_THESIS)])
def test_an_answer_that_is_not_finite_is_no_face_and_forgotten(network, config):
    stream, crops = predictor_of(_loaded(network, config)), _crops(2)
    expected = [stream.add(crop).points for crop in crops]
    stream.reset()
    first, name = stream.add(crops[0]), "_run" if network is compact else "_step"
    kept = getattr(stream, name)

    def broken(*inputs):
        found = kept(*inputs)
        outputs = {key: value * np.nan for key, value in (found if network is compact else found[0]).items()}
        return outputs if network is compact else (outputs, found[1])
    setattr(stream, name, broken)
    with pytest.raises(NoFace, match="1.png: no face: .*not finite"):
        stream.add(crops[1])
    setattr(stream, name, kept)
    assert stream.count == 1 and stream.face is first
    np.testing.assert_array_equal(stream.add(crops[1]).points, expected[1])
