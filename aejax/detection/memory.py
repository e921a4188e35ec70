"""When a batch doesn't fit into the device's memory: score in smaller ones, and say so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import jax

from aejax.config import InputError

logger = logging.getLogger(__name__)

Found = TypeVar("Found")


class BatchLimit:
    """The most rows of a batch that a device was seen to hold.

    Attributes:
        rows: the limit; None while nothing failed.
    """

    def __init__(self) -> None:
        self.rows: int | None = None

    def of(self, batch_size: int) -> int:
        """Rows in a batch where `batch_size` are asked for."""
        return batch_size if self.rows is None else min(batch_size, self.rows)

    def run(self, function: Callable[[int], Found], batch_size: int) -> Found:
        """Call a function with a batch size, halved as long as the device's memory is too small.

        The limit is kept: later calls don't try again what has failed. A process that shares
        its programs with others doesn't halve, because all must run the same one.

        Args:
            function: of the batch size; starts over when it is called again.
            batch_size: rows asked for.

        Raises:
            InputError: if not even one row fits.
            JaxRuntimeError: what else the device says; of several processes, this too.
        """
        while True:
            size = self.of(batch_size)
            try:
                return function(size)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error) or jax.process_count() > 1:
                    raise
                if size == 1:
                    raise InputError(
                        "a batch of 1 row doesn't fit into the device's memory; "
                        "allowed: a device with more, or a smaller model"
                    ) from error
            # Out here the error is gone, and with it what its frames kept on the device.
            self.rows = size // 2
            logger.warning(
                "aejax: warning: batches of %d rows don't fit into the device's memory; "
                "going on with %d",
                size,
                self.rows,
            )


def is_out_of_memory(error: Exception) -> bool:
    """Whether XLA says that the device's memory is exhausted."""
    return "RESOURCE_EXHAUSTED" in str(error)
