"""Windows and what is made of their values, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aejax.config import InputError
from aejax.data.windows import Sequences, mean_by_segment, top_by_segment, windows

LISTS = st.lists(st.lists(st.integers(1, 30), max_size=9), max_size=7)


@settings(max_examples=60, deadline=None)
@given(LISTS, st.integers(1, 4))
def test_windows_are_what_a_loop_makes(lists: list[list[int]], window: int) -> None:
    wanted, segments = [], []
    for number, one in enumerate(lists):
        padded = [0] * window + one + [0] * window
        for at in range(len(one)):
            wanted.append(padded[at : at + 2 * window + 1])
            segments.append(number)
    found = windows(Sequences.of(lists), window)
    assert found.rows.tolist() == wanted
    assert found.segments.tolist() == segments
    assert found.rows.dtype == np.int32


@settings(max_examples=60, deadline=None)
@given(LISTS)
def test_marks_enclose_and_are_not_events(lists: list[list[int]]) -> None:
    marked = Sequences.of(lists).enclosed(40, 41)
    wanted = [[40, *one, 41] for one in lists]
    assert marked.ids.tolist() == [event for one in wanted for event in one]
    assert marked.lengths.tolist() == [len(one) for one in wanted]
    events = marked.ids[marked.without_ends()]
    assert events.tolist() == [event for one in lists for event in one]
    found = windows(marked, 1, marked.without_ends())
    assert found.rows[:, 1].tolist() == events.tolist()
    assert np.all(found.rows != 0)
    assert found.segments.tolist() == [n for n, one in enumerate(lists) for _ in one]


@settings(max_examples=60, deadline=None)
@given(LISTS, st.data())
def test_picked_sequences_are_those_asked_for(lists: list[list[int]], data: st.DataObject) -> None:
    which = data.draw(
        st.lists(st.integers(0, len(lists) - 1), max_size=9) if lists else st.just([])
    )
    found = Sequences.of(lists).pick(np.array(which, int))
    assert np.split(found.ids, found.bounds[1:-1])[0].tolist() == (lists[which[0]] if which else [])
    assert found.ids.tolist() == [event for at in which for event in lists[at]]
    assert found.lengths.tolist() == [len(lists[at]) for at in which]


@settings(max_examples=60, deadline=None)
@given(LISTS, st.integers(1, 4))
def test_means_and_largest_by_sequence(lists: list[list[int]], top: int) -> None:
    sequences = Sequences.of(lists)
    values = sequences.ids * 0.5
    mean = mean_by_segment(values, sequences.segments, len(lists))
    largest = top_by_segment(values, sequences.segments, len(lists), top)
    for at, one in enumerate(lists):
        if not one:
            assert np.isnan(mean[at])
            assert np.isnan(largest[at])
        else:
            assert mean[at] == pytest.approx(np.mean(one) / 2)
            assert largest[at] == pytest.approx(np.mean(sorted(one)[-top:]) / 2)


def test_numbers_that_stand_for_outside_are_refused() -> None:
    with pytest.raises(InputError, match="event 1 has number 0; allowed: 1 to 16777216"):
        windows(Sequences.of([[3, 0]]), 1)
    with pytest.raises(InputError, match="allowed: from 0 to 2 events"):
        Sequences(ids=np.array([1, 2]), bounds=np.array([0, 1]))
    with pytest.raises(InputError, match="goes down"):
        Sequences(ids=np.array([1, 2]), bounds=np.array([0, 2, 1, 2]))
