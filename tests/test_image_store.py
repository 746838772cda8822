"""Decoded images in memory, and the memory of batches: what is kept, what is refused, what is used again."""
import logging
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from Datagenerator.loading import image_store
from Datagenerator.loading.buffers import BufferPool
from Datagenerator.loading.image_store import ImageStore, free_memory
from Dataset.io.images import read_image


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), rng.integers(0, 256, (16, 16, 3), np.uint8))
    return sorted(tmp_path.glob("*.jpg"))


@pytest.mark.parametrize("cache", ["uint8", "none", "auto"])
def test_pixels_are_opencvs_each_time(files, cache):
    store = ImageStore(files, 16, cache=cache)
    assert len(store) == 4 and store.cached == (cache != "none")
    for k in (0, 3, 3, 0, 0):
        assert store[k].dtype == np.uint8 and (store[k] == cv2.imread(str(files[k]))).all()


def test_each_image_is_decoded_once(files, monkeypatch):
    read = []
    monkeypatch.setattr(image_store, "read_image", lambda path: read.append(path) or cv2.imread(str(path)))
    store = ImageStore(files, 16, cache="uint8")
    for k in (0, 1, 0, 1, 1):
        store[k]
    assert read == files[:2]


def test_limit(files, caplog):
    need = 4 * 16 * 16 * 3
    assert ImageStore(files, 16, cache="auto", limit=need).cached
    with caplog.at_level(logging.WARNING):
        assert not ImageStore(files, 16, cache="auto", limit=need - 1).cached
    assert caplog.messages == ["images are decoded at each use: 4 images of 16x16 need 0.0 MB of memory, "
                               "the limit is 0.0 MB"]
    with pytest.raises(ValueError, match="^cache 'uint8': 4 images of 16x16 need .* 'auto' would decode them"):
        ImageStore(files, 16, cache="uint8", limit=need - 1)
    with pytest.raises(ValueError, match="^cache must be one of auto, uint8, none, got 'float'$"):
        ImageStore(files, 16, cache="float")


def test_threads_leave_the_processs_warnings_alone(files):
    before, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read_image, files * 300))     # each read looks into the header; a store's later ones do not
    finally:
        sys.setswitchinterval(interval)
    assert warnings.filters == before


def test_free_memory_is_a_sane_number():
    assert 2**24 < free_memory() < 2**50


@pytest.mark.parametrize("cache", ["uint8", "none"])
def test_a_file_that_breaks_later_is_named(files, cache):
    store = ImageStore(files, 16, cache=cache)
    first = store[0].copy()
    files[0].write_bytes(b"gone")
    if cache == "uint8":
        assert (store[0] == first).all()
    else:
        with pytest.raises(ValueError, match=r"0\.jpg: "):
            store[0]


def test_buffers_are_used_again_only_when_nobody_looks():
    pool = BufferPool(100)
    first = pool.empty((10, 10))
    assert first.dtype == np.float32 and first.flags.writeable and first.ctypes.data % 64 == 0
    address, corner = first.ctypes.data, first[2:4, 1]
    del first
    assert pool.empty((5, 5)).ctypes.data != address        # `corner` still looks at it
    corner[:] = 1
    del corner
    addresses = {array.ctypes.data for array in [pool.empty((3, 3)) for _ in range(2)]}
    assert address in addresses and len(addresses) == 2     # smaller batches take the same buffers
    with pytest.raises(ValueError, match=r"buffers of 100 floats, wanted shape \(101,\)"):
        pool.empty((101,))


def test_buffers_of_many_threads_never_meet():
    pool, wrong = BufferPool(1000, keep=3), []

    def work(value):
        for _ in range(300):
            array = pool.empty((1000,))
            array[:] = value
            if (array != value).any():
                wrong.append(value)
    threads = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(pool._free) <= 3
