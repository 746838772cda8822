"""Photo by photo: equal to the batch, whatever the memory; constant in what it holds."""
import dataclasses
import gc
import tracemalloc

import keras
import numpy as np
import pytest

from Network import compact, mobile3model
from Network.loading import Loaded
from Network.predict import Crop, network_input
from Network.streaming import Prefixes, Reconstructor, Rerun, make_stream
from tests.test_compact import TINY

TINY_THESIS = mobile3model.Config(image_size=32, points=64, lstm_filters=(4, 4), lstm_strides=(2, 2),
                                  block_filters=(4, 6), block_strides=(1, 2), block_expansion=(1, 2),
                                  block_repeats=(1, 1), link_filters=(6,), decoder_filters=(6, 4, 4), shape_head=3)


def _loaded(network, config, images=None):
    keras.utils.set_random_seed(0)
    name = "compact" if network is compact else "convlstm"
    model = network.build(dataclasses.replace(config, images=images))
    return Loaded(model, {"network": name, "model": dataclasses.asdict(config)}, "run", 64, 32, images, "grid")


def _crops(count, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    return [Crop(image, image, (0, 0, 32, 32), f"{i}.png", "frontal") for i, image in enumerate(images)]


@pytest.mark.parametrize("network, config", [(compact, TINY), (mobile3model, TINY_THESIS)])
def test_stream_equals_the_batch(network, config):
    loaded = _loaded(network, config)
    stream, crops = make_stream(loaded), _crops(6)
    assert isinstance(stream, Reconstructor)
    for count, crop in enumerate(crops, start=1):
        face = stream.add(crop)
        np.testing.assert_allclose(face.points, loaded.predict(network_input(crops[:count]))[0], atol=1e-5)
    assert stream.count == 6
    stream.reset()
    np.testing.assert_allclose(stream.add(crops[0]).points, loaded.predict(network_input(crops[:1]))[0], atol=1e-5)


def test_prefixes_are_the_stream():
    loaded = _loaded(compact, TINY)
    crops = _crops(5)
    faces = Prefixes(loaded)(np.repeat(network_input(crops), 2, axis=0))
    stream = Reconstructor(loaded)
    for t, crop in enumerate(crops):
        np.testing.assert_allclose(faces[0, t], stream.add(crop).points, atol=1e-5)
    np.testing.assert_allclose(faces[0], faces[1], atol=1e-5)      # threads share the batch as they like


@pytest.mark.slow
def test_a_thousand_images_hold_no_more_than_ten():
    loaded = _loaded(compact, TINY)
    stream, crops = Reconstructor(loaded), _crops(10)
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
    fixed = _loaded(compact, TINY, images=2)
    assert isinstance(make_stream(fixed), Rerun)
    with pytest.raises(ValueError, match="cannot go on photo by photo"):
        Reconstructor(fixed)
    bare = _loaded(compact, TINY)._replace(config={})
    stream, crops = make_stream(bare), _crops(3)
    for count, crop in enumerate(crops, start=1):
        np.testing.assert_allclose(stream.add(crop).points, bare.predict(network_input(crops[:count]))[0], atol=1e-6)
    stream.reset()
    assert stream.count == 0


def test_a_face_that_is_not_finite_is_refused_and_forgotten():
    loaded = _loaded(compact, TINY)
    stream, crops = Reconstructor(loaded), _crops(2)
    first = stream.add(crops[0])
    kept, stream._step = stream._step, lambda images, states: {"points": np.full((1, 64, 3), np.nan), "states": None}
    with pytest.raises(ValueError, match="1.png: makes run predict points that are not finite"):
        stream.add(crops[1])
    stream._step = kept
    assert stream.count == 1 and first.places.shape == (256, 2)
    stream.add(crops[1])
