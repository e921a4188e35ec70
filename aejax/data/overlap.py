"""Stages that work at the same time, each at most a few items ahead of the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat
from types import TracebackType
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(
    function: Callable[[Item], Made], items: Iterable[Item], *, depth: int, threads: int
) -> Generator[Made]:
    """What a function makes of each item, in order, by threads at most `depth` items ahead.

    The threads end before this generator does, and before the process where nobody closes it.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="reader") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def ahead(items: Iterator[Item], depth: int) -> Generator[Item]:
    """The same items, read by a thread while at most `depth` wait to be used; closed at the end."""
    end: Any = object()
    read = made_ahead(lambda _: next(items, end), repeat(None), depth=depth, threads=1)
    try:
        while (item := next(read)) is not end:
            yield item
            # Not kept while the next one is made: that would be one more in memory.
            del item
    finally:
        read.close()
        if isinstance(items, Generator):
            items.close()


class Behind(Generic[Item]):
    """Calls a function in a thread, in order, at most `depth` items behind who puts them.

    Args:
        function: takes an item.
        depth: items that may wait.
    """

    def __init__(self, function: Callable[[Item], None], depth: int) -> None:
        self.function, self.depth = function, depth
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self.waiting: deque[Future[None]] = deque()
        self.failed = False

    def put(self, item: Item) -> None:
        """Have an item worked on; raises here what an earlier item raised there."""
        self.waiting.append(self.pool.submit(self._call, item))
        while self.waiting and (len(self.waiting) > self.depth or self.waiting[0].done()):
            self.waiting.popleft().result()

    def _call(self, item: Item) -> None:
        # What waits behind an item that failed must not take its place.
        if self.failed:
            return
        try:
            self.function(item)
        except BaseException:
            self.failed = True
            raise

    def __enter__(self) -> Behind[Item]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What was put is finished even if the source has failed: it is work that is done.
        self.pool.shutdown(wait=True)
        if kind is None:
            while self.waiting:
                self.waiting.popleft().result()
