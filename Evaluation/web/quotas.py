"""Something of which there is only so much, lent to one client after the other."""
from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator

LOOK_SECONDS = 0.25     # between two looks at whether somebody who waits still wants it


@dataclass(eq=False)
class _Borrower:
    client: str
    amount: int
    number: int         # who came first has the lowest


class Quota:
    """`capacity` units (bytes, or 1 for a turn), of which a client has at most `per_client` at a time.

    They go to the client who was served least often since he last had nothing to ask for, and of his requests to the
    first: who sends one request is not behind all twenty of somebody else. What is too large for what is free waits,
    and nobody overtakes it. Thread-safe.
    """

    def __init__(self, capacity: int, per_client: int | None = None) -> None:
        self._free, self._limit = capacity, capacity if per_client is None else per_client
        self._changed, self._numbers = threading.Condition(), itertools.count()
        self._waiting: list[_Borrower] = []
        self._holding: list[_Borrower] = []
        self._served: dict[str, int] = {}       # of clients who wait or hold something

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @contextmanager
    def held(self, client: str, amount: int, seconds: float, check: Callable[[], None] = lambda: None
             ) -> Iterator[None]:
        """Run the body with `amount` units, waited for at most so many seconds: TimeoutError.

        check  is called some times a second while waiting, and ends it with any exception; it must return at once
        """
        borrower, until = _Borrower(client, amount, next(self._numbers)), time.monotonic() + seconds
        with self._changed:
            self._waiting.append(borrower)
            try:
                while self._next() is not borrower:
                    check()
                    left = until - time.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"no turn in {seconds:g} s")
                    self._changed.wait(min(left, LOOK_SECONDS))
                self._free -= amount
                self._holding.append(borrower)
                self._served[client] = self._served.get(client, 0) + 1
            finally:
                self._leave(self._waiting, borrower)
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._leave(self._holding, borrower)

    def _next(self) -> _Borrower | None:
        """Who is served now; None: nobody can be."""
        has: dict[str, int] = {}
        for one in self._holding:
            has[one.client] = has.get(one.client, 0) + one.amount
        may = [one for one in self._waiting if has.get(one.client, 0) + one.amount <= self._limit]
        first = min(may, key=lambda one: (self._served.get(one.client, 0), one.number), default=None)
        return first if first is not None and first.amount <= self._free else None

    def _leave(self, where: list[_Borrower], borrower: _Borrower) -> None:
        where.remove(borrower)
        if all(one.client != borrower.client for one in (*self._waiting, *self._holding)):
            self._served.pop(borrower.client, None)
        self._changed.notify_all()
