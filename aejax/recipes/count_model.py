"""A model of counts with back-off: what a context model has to beat to be worth training.

The probability of an event between its nearest neighbours is how often it stood between
these in training; a context seen seldom, or never, leans on the context one neighbour
narrower on each side (Witten and Bell, "The zero-frequency problem", 1991, method C).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from aejax.config import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Counts:
    """Counts of one width of context; contexts and pairs are sorted codes, int64."""

    contexts: np.ndarray
    seen: np.ndarray
    kinds: np.ndarray
    pairs: np.ndarray
    pairs_seen: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountModel:
    """Counts of events by their neighbours.

    Attributes:
        vocabulary: how many numbers there are.
        choices: among how many events an event is drawn that was never counted.
        tables: for contexts of 0, 1, 2, ... neighbours on each side.
    """

    vocabulary: int
    choices: int
    tables: tuple[_Counts, ...]

    def surprise(self, rows: np.ndarray) -> np.ndarray:
        """-log of the probability of every window's middle, in nats, float64 [n].

        Args:
            rows: windows, whole numbers [n, 2 * window + 1], at least as wide as the counts.
        """
        middle = rows[:, rows.shape[1] // 2].astype(np.int64)
        probability = np.full(len(rows), 1 / self.choices)
        for width, table in enumerate(self.tables):
            codes = _codes(rows, width, self.vocabulary)
            at, known = _find(table.contexts, codes)
            pair, met = _find(table.pairs, codes * self.vocabulary + middle)
            seen, kinds = table.seen[at], table.kinds[at]
            counted = np.where(met, table.pairs_seen[pair], 0)
            wider = (counted + kinds * probability) / (seen + kinds)
            probability = np.where(known, wider, probability)
        surprise: np.ndarray = -np.log(probability)
        return surprise


def count(rows: np.ndarray, neighbours: int, vocabulary: int, choices: int) -> CountModel:
    """Count events by their neighbours.

    Args:
        rows: windows to learn from, whole numbers [n, 2 * window + 1].
        neighbours: most neighbours on each side that count.
        vocabulary: how many numbers there are.
        choices: different events that the middle can be, the unknown one with them.

    Raises:
        InputError: if contexts are too many to be numbered, or windows too narrow.
    """
    if vocabulary ** (2 * neighbours + 1) >= 1 << 63 or 2 * neighbours >= rows.shape[1]:
        raise InputError(
            f"neighbours is {neighbours}; allowed with {vocabulary} numbers and windows of "
            f"{rows.shape[1]}: fewer"
        )
    middle = rows[:, rows.shape[1] // 2].astype(np.int64)
    tables = []
    for width in range(neighbours + 1):
        codes = _codes(rows, width, vocabulary)
        contexts, seen = np.unique(codes, return_counts=True)
        pairs, pairs_seen = np.unique(codes * vocabulary + middle, return_counts=True)
        kinds = np.bincount(np.searchsorted(contexts, pairs // vocabulary))
        tables.append(
            _Counts(contexts=contexts, seen=seen, kinds=kinds, pairs=pairs, pairs_seen=pairs_seen)
        )
    return CountModel(vocabulary=vocabulary, choices=choices, tables=tuple(tables))


def _codes(rows: np.ndarray, width: int, vocabulary: int) -> np.ndarray:
    """One number for each context of `width` neighbours on each side, int64 [n]."""
    middle = rows.shape[1] // 2
    codes = np.zeros(len(rows), np.int64)
    for offset in (o for w in range(1, width + 1) for o in (-w, w)):
        codes = codes * vocabulary + rows[:, middle + offset].astype(np.int64)
    return codes


def _find(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each number stands in a sorted array, and whether it does."""
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return at, known[at] == asked
