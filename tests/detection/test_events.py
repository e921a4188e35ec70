"""Flags of consecutive points as events."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import aejax
from aejax import InputError
from aejax.detection.events import joined, runs_of


def spans(found: list[aejax.Event]) -> list[tuple[int, int, int]]:
    return [(event.first, event.last, event.peak) for event in found]


def test_flags_that_follow_each_other_are_one_event() -> None:
    scores = [0, 5, 7, 0, 6, np.nan, 0, 9, 0]
    assert spans(aejax.events(scores, 4)) == [(1, 2, 2), (4, 4, 4), (7, 7, 7)]
    assert spans(aejax.events(scores, 4, merge_gap=1)) == [(1, 4, 2), (7, 7, 7)]
    assert spans(aejax.events(scores, 4, merge_gap=2)) == [(1, 7, 7)]
    assert spans(aejax.events(scores, 4, merge_gap=1, least_length=2)) == [(1, 4, 2)]
    assert aejax.events(scores, 4, merge_gap=1)[0].flagged == 3
    assert aejax.events([0, 1], 4) == []


def test_an_event_has_its_times_series_and_channels() -> None:
    times = np.arange(4).astype("datetime64[h]")
    (event,) = aejax.events(
        [1, 3, 4, 0],
        np.array([False, True, True, False]),
        times=times,
        channels=[["a"], ["b"], ["c", "a"], []],
    )
    assert (event.start, event.end, event.peak_time) == (times[1], times[2], times[2])
    assert event.channels == ("c", "a")
    assert event.score == 4
    assert event.length == 2
    two = aejax.events([1, 1], 0, series=["x", "y"], merge_gap=5)
    assert [event.series for event in two] == ["x", "y"]


@pytest.mark.parametrize("seed", range(30))
def test_pieces_give_the_events_of_the_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.random(80)
    gap, least = int(random.integers(0, 4)), int(random.integers(1, 4))
    whole = aejax.events(scores, 0.6, merge_gap=gap, least_length=least)
    cuts = [0, *np.sort(random.choice(np.arange(1, 80), 5, replace=False)).tolist(), 80]
    pieces = (
        event
        for first, stop in itertools.pairwise(cuts)
        for rows in [first + np.flatnonzero(scores[first:stop] > 0.6)]
        for event in runs_of(rows, scores[rows])
    )
    assert list(joined(pieces, merge_gap=gap, least_length=least)) == whole


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"merge_gap": -1}, "merge_gap is -1; allowed: at least 0"),
        ({"least_length": 0}, "least_length is 0; allowed: at least 1"),
        ({"times": [1]}, "times has length 1; allowed: 3, one a score"),
    ],
)
def test_bad_numbers_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        aejax.events([1, 2, 3], 2, **settings)  # type: ignore[arg-type]
