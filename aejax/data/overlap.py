"""Stages that work at the same time, each at most a few items ahead of the next."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], depth: int) -> Generator[Item]:
    """The same items, read by a thread that stays at most `depth` items ahead."""
    ready: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()
    end = object()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
                # Not kept while the next one is made: that would be one more in memory.
                del item
            put((end, None))
        except BaseException as error:  # Raised again where the items are used.
            put((end, error))

    thread = threading.Thread(target=read, name="reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
            del item
    finally:
        stop.set()
        thread.join()


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
