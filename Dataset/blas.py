"""Linear algebra on one thread.

Systems of a few hundred unknowns are solved fastest by a single thread. On a busy machine the threads of BLAS spin
while they wait for each other: a fit of one photo took 30 times its processor time.
"""
from __future__ import annotations

from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_thread() -> AbstractContextManager:
    """Context manager in which the BLAS of NumPy and SciPy uses one thread; the previous limit is restored
    afterwards."""
    return _controller().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    return ThreadpoolController()       # searches the libraries of the process, once
