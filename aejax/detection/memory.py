"""When a batch doesn't fit into the device's memory: smaller ones, and a word about it."""

from __future__ import annotations

import logging

import jax

from aejax.config import InputError

logger = logging.getLogger(__name__)


class BatchLimit:
    """The most rows of a batch that a device was seen to hold.

    Attributes:
        rows: the limit; None while nothing failed. It is kept: later calls don't try again
            what has failed.
    """

    def __init__(self) -> None:
        self.rows: int | None = None

    def of(self, batch_size: int) -> int:
        """Rows in a batch where `batch_size` are asked for."""
        return batch_size if self.rows is None else min(batch_size, self.rows)

    def halve(self, batch_size: int, error: Exception) -> None:
        """Lower the limit to half of a batch that failed, where memory was too small for it.

        A process that shares its programs with others doesn't halve, because all must run the
        same one.

        Args:
            batch_size: rows that were tried.
            error: what the device said of them.

        Raises:
            InputError: if not even one row fits.
            JaxRuntimeError: what else the device says; of several processes, this too.
        """
        if not is_out_of_memory(error) or jax.process_count() > 1:
            raise error
        if batch_size == 1:
            raise InputError(
                "a batch of 1 row doesn't fit into the device's memory; "
                "allowed: a device with more, or a smaller model"
            ) from error
        self.rows = batch_size // 2
        logger.warning(
            "aejax: warning: batches of %d rows don't fit into the device's memory; "
            "going on with %d",
            batch_size,
            self.rows,
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether XLA says that the device's memory is exhausted."""
    return "RESOURCE_EXHAUSTED" in str(error)
