"""Rendering in worker processes: one render context per process, made once."""
from __future__ import annotations

from functools import lru_cache

import numpy as np

from Dataset.face_model.model import FaceModel, load_face_model
from Dataset.synthesis.renders import RenderOptions, render_subject
from Dataset.synthesis.scene import RenderContext


def render_context() -> RenderContext:
    """The render context of this process for its face model (`load_face_model()`), with single-threaded ray casting."""
    return _context(load_face_model())


@lru_cache(maxsize=1)
def _context(model: FaceModel) -> RenderContext:
    return RenderContext(model, threads=1)


def render_one(job: tuple[int, RenderOptions]) -> dict[str, np.ndarray]:
    """The arrays of one subject, given as (number, options): `render_subject` with this process's render context."""
    number, options = job
    return render_subject(number, options, render_context())
