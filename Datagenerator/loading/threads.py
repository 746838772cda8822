"""The batches of a sequence made by plain threads, ahead of the trainer: what pipeline.py gives without TensorFlow."""
from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Iterator

Batch = tuple[Any, Any]


class ThreadPipeline:
    """Iterate it for load(start), ..., load(stop - 1) in this order; again for them again.

    load      batch number -> (x, y), called by several threads at a time. Its error is raised where its batch is due
    workers   batches made at a time
    prefetch  finished batches that wait for the trainer
    """

    def __init__(self, load: Callable[[int], Batch], start: int, stop: int, workers: int, prefetch: int) -> None:
        self._load, self._numbers, self._workers, self._prefetch = load, range(start, stop), workers, prefetch

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Batch]:
        """At most workers + prefetch batches are in progress; leaving an epoch early drops the batches not yet
        started."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="batches")
        waiting: deque[Future[Batch]] = deque()
        try:
            for number in self._numbers:
                waiting.append(pool.submit(self._load, number))
                if len(waiting) >= self._workers + self._prefetch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
