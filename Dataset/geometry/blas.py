"""Linear algebra of a few hundred unknowns is done soonest by one thread: on a busy machine more of them wait for each
other, spinning (a fit of one photo took 30 times its processor time)."""
from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager:
    """`with one_thread():` NumPy's and SciPy's BLAS use one thread; afterwards as before."""
    return _controller().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()       # looks through the process's libraries once
