"""Face detectors by name, ready to run: BlazeFace by onnxruntime, and those of the papers."""
from __future__ import annotations

from functools import lru_cache
from typing import Callable

import numpy as np

from Dataset.detection.blazeface import MODEL, Run
from Dataset.detection.cascades import Detection, detect_faces
from Dataset.detection.detect import detect
from Dataset.detection.dlib_detector import dlib_faces, load_dlib

BLAZEFACE, THESIS, DLIB = DETECTORS = ("blazeface", "thesis", "dlib")
#: (image (H, W, 3) uint8 BGR, every_face) -> faces, the largest first
Detect = Callable[[np.ndarray, bool], list[Detection]]


def make_detect(name: str = BLAZEFACE) -> Detect:
    """A detector by name: "blazeface", "thesis" (OpenCV's frontal cascade on the full image, listing B-1.1) or "dlib"
    (Endrawis 2018, 2.5). ValueError for another name, or one whose package is not installed or too new."""
    if name == BLAZEFACE:
        run = blazeface()
        return lambda image, every_face=False: detect(image, run, every_face)
    if name == THESIS:
        return lambda image, every_face=False: detect_faces(image, thesis=True)
    if name == DLIB:
        load_dlib()
        return lambda image, every_face=False: dlib_faces(image)
    raise ValueError(f"detector must be one of {', '.join(DETECTORS)}, got {name!r}")


@lru_cache(maxsize=1)
def blazeface() -> Run:
    """BlazeFace's network, opened once a process. ValueError, one line, where onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("the face detector needs onnxruntime: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1        # a second thread would wait in a busy loop between two images
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"],
                                           enable_fallback=False)
    return lambda image: tuple(session.run(["regressors", "classificators"], {"image": image}))
