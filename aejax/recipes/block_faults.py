"""Faults put into normal sequences, so that a detector can be chosen without one label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aejax.data.batches import host_random
from aejax.data.windows import Sequences

Fault = Callable[[np.ndarray, np.random.Generator, np.ndarray], np.ndarray]


def with_fault(name: str, blocks: Sequences, events: np.ndarray, seed: int) -> Sequences:
    """Every sequence with one fault in it, at a random place.

    Args:
        name: one of `FAULTS`.
        blocks: sequences of at least two events.
        events: numbers that an event may be replaced with, [many].
        seed: of places and events.
    """
    random = host_random(seed, f"fault {name}")
    parts = np.split(blocks.ids, blocks.bounds[1:-1])
    return Sequences.of(FAULTS[name](part, random, events) for part in parts)


def _lost(ids: np.ndarray, random: np.random.Generator, events: np.ndarray) -> np.ndarray:
    return np.delete(ids, random.integers(len(ids)))


def _repeated(ids: np.ndarray, random: np.random.Generator, events: np.ndarray) -> np.ndarray:
    at = random.integers(len(ids))
    return np.insert(ids, at, ids[at])


def _swapped(ids: np.ndarray, random: np.random.Generator, events: np.ndarray) -> np.ndarray:
    # Two equal neighbours would make no fault.
    places = np.flatnonzero(ids[1:] != ids[:-1])
    at = random.choice(places) if len(places) else 0
    return np.concatenate([ids[:at], ids[at : at + 2][::-1], ids[at + 2 :]])


def _replaced(ids: np.ndarray, random: np.random.Generator, events: np.ndarray) -> np.ndarray:
    at = random.integers(len(ids))
    changed = ids.copy()
    changed[at] = random.choice(events[events != ids[at]])
    return changed


def _cut_short(ids: np.ndarray, random: np.random.Generator, events: np.ndarray) -> np.ndarray:
    return ids[: random.integers(1, len(ids))]


def _foreign(ids: np.ndarray, random: np.random.Generator, events: np.ndarray) -> np.ndarray:
    return np.insert(ids, random.integers(len(ids) + 1), random.choice(events))


FAULTS: dict[str, Fault] = {
    "an event lost": _lost,
    "an event repeated": _repeated,
    "two neighbours swapped": _swapped,
    "an event replaced": _replaced,
    "a further event": _foreign,
    "cut short": _cut_short,
}
