"""How many rows go into a batch when nothing is asked for."""

from __future__ import annotations

import jax

from aejax.config import Config
from aejax.config.scores import score_object
from aejax.data.schema import Schema
from aejax.models.heads import heads_of

MOST_BATCH_ROWS = 1 << 14
# Few rows get a batch of their own, a program more to compile, at most four: a single row took
# 18 ms in a batch of 4,096 (benchmarks/README.md, "Few rows").
FEWER, FEWEST_BATCH_ROWS = 8, 32
# An accelerator keeps nothing in a cache that a batch could leave, and starts a program in the
# time that it scores some thousand rows: on an H100 65,536 rows of 784 values score 2.2 times as
# fast as 4,096 (benchmarks/results/device_h100.md).
ACCELERATOR_VALUES, MOST_ACCELERATOR_ROWS = 1 << 28, 1 << 16


def batch_size_for(rows: int, schema: Schema, config: Config) -> int:
    """Rows in a batch where only so many rows are there."""
    return fitting_batch_size(rows, default_batch_size(schema, config))


def default_batch_size(schema: Schema, config: Config) -> int:
    """Rows in a scoring batch when nothing is asked for: a power of two, at least 64.

    Args:
        schema: of the rows.
        config: whose model's widest layer decides how many rows stay in cache, and its score.
    """
    outputs = sum(head.outputs for head in heads_of(schema) or ())
    widest = config.model.widest(max(schema.features, outputs))
    most = min(MOST_BATCH_ROWS, config.model.batch_values(widest) // widest)
    on_cpu = jax.default_backend() == "cpu"
    if not on_cpu:
        most = min(MOST_ACCELERATOR_ROWS, ACCELERATOR_VALUES // widest)
    if hasattr(score := score_object(config), "batch_rows"):
        most = min(most, score.batch_rows(schema.features, on_cpu))
    return 1 << (max(64, most).bit_length() - 1)


def batch_sizes(schema: Schema, config: Config) -> list[int]:
    """Every size that `batch_size_for` gives, from the smallest."""
    sizes = [default_batch_size(schema, config)]
    while sizes[0] // FEWER >= FEWEST_BATCH_ROWS:
        sizes.insert(0, sizes[0] // FEWER)
    return [1, sizes[0] // FEWER, *sizes]


def fitting_batch_size(rows: int, most: int) -> int:
    """Rows in a batch where only so many are there: few shapes, and none mostly padding.

    Args:
        rows: how many there are.
        most: rows in a batch where there is no end of them.

    Returns:
        The largest of `most`, an eighth of it, an eighth of that and so on that the rows fill;
        where they fill none, the last that is at least 32, or an eighth of that one where all
        of them go into it; 1 of one row.

    Example:
        >>> [fitting_batch_size(rows, 16_384) for rows in (1, 2, 20, 300, 5_000, 100_000)]
        [1, 4, 32, 256, 2048, 16384]
    """
    if rows == 1:
        # What is scored as it comes: a batch of four takes half as long again, or more.
        return 1
    size = most
    while size > rows and size // FEWER >= FEWEST_BATCH_ROWS:
        size //= FEWER
    # Of so few rows the calls cost more than the padding: they go into one.
    return size // FEWER if rows <= size // FEWER else size
