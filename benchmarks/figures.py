"""From the seconds of repeats to medians, spreads and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

Seconds = Sequence[float | None]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def rates(seconds: Seconds, work: float) -> dict[str, float] | None:
    """Work done in a second, over the repeats that succeeded; None where none did."""
    known = [work / s for s in seconds if s]
    return spread(known) if known else None


def times_faster(ours: Seconds, theirs: Seconds) -> dict[str, float] | None:
    """How many times faster `ours` was, repeat by repeat; None where no repeat has both."""
    # One that never started has no repeats at all.
    ratios = [b / a for a, b in zip(ours, theirs, strict=False) if a and b]
    return spread(ratios) if ratios else None


def share_of_sum(ours: Seconds, others: Sequence[Seconds]) -> dict[str, float] | None:
    """How much of the time that `ours` took the others need one after the other, by repeat."""
    shares = [sum(rest) / a for a, *rest in zip(ours, *others, strict=True) if a and all(rest)]
    return spread(shares) if shares else None


def largest_difference(found: Any, reference: np.ndarray) -> float:
    """The largest difference of a score from its reference, relative to the reference."""
    found = np.asarray(found, np.float64)
    return float(np.max(np.abs(found - reference) / np.abs(reference)))


def limit_share(
    rate: float, limits: dict[str, float], *, precision: str, flops: float, moved: float
) -> float | None:
    """Share of the rate at which the machine would multiply, or read, without doing anything else.

    Args:
        rate: rows a second.
        limits: operations a second by "product_float32" and so on; "read" in bytes a second.
        precision: of the products.
        flops: operations of a row's products.
        moved: bytes that must be read and written for a row.
    """
    product, read = limits.get(f"product_{precision}"), limits.get("read")
    if not product or not read:
        return None
    return rate * max(flops / product, moved / read)
