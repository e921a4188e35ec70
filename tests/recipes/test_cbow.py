"""The studies of log blocks and of words, and the count model that the first has to beat."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import aejax
from aejax.config import InputError
from aejax.data.windows import Sequences, Vocabulary, windows
from aejax.recipes import find
from aejax.recipes.hdfs_cbow import count
from aejax.recipes.hdfs_report import FAULTS, with_fault
from aejax.recipes.runner import run_any
from aejax.recipes.words_cbow import nearest

REAL = pytest.mark.skipif("AEJAX_DATA_DIR" not in os.environ, reason="AEJAX_DATA_DIR is not set")


def test_counts_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    learned = windows(Sequences.of([random.integers(1, 5, 30), random.integers(1, 5, 9)]), 2).rows
    asked = windows(Sequences.of([random.integers(1, 7, 40)]), 2).rows
    model = count(learned, 2, vocabulary=7, choices=6)

    def probability(row: np.ndarray, width: int) -> float:
        if width < 0:
            return 1 / 6

        def context(one: np.ndarray) -> tuple[int, ...]:
            return tuple(one[2 - width : 2].tolist() + one[3 : 3 + width].tolist())

        met = Counter(int(one[2]) for one in learned if context(one) == context(row))
        less = probability(row, width - 1)
        if not met:
            return less
        return (met[int(row[2])] + len(met) * less) / (met.total() + len(met))

    wanted = [-np.log(probability(row, 2)) for row in asked]
    np.testing.assert_allclose(model.surprise(asked), wanted, rtol=1e-12)
    with pytest.raises(InputError, match="neighbours is 3; allowed"):
        count(learned, 3, vocabulary=7, choices=6)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_changes_every_block(name: str) -> None:
    blocks = Sequences.of([[4, 5, 6, 4, 7]] * 50 + [[4, 5]] * 50)
    changed = with_fault(name, blocks, np.array([1, 4, 5, 6, 7]), 0)
    assert len(changed) == len(blocks)
    before, after = (np.split(s.ids, s.bounds[1:-1]) for s in (blocks, changed))
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    again = with_fault(name, blocks, np.array([1, 4, 5, 6, 7]), 0)
    np.testing.assert_array_equal(changed.ids, again.ids)


def test_nearest_words_are_those_of_the_largest_cosine() -> None:
    vocabulary = Vocabulary(words=("a", "b", "c", "d"), counts=np.ones(4, np.int64), others=0)
    vectors = np.array([[1, 0], [10, 1], [0, 5], [-3, 0]], np.float32)
    (near,) = nearest(vocabulary, vectors, [vocabulary.number("a")], 2)
    assert (near.word, near.words) == ("a", ("b", "c"))
    np.testing.assert_allclose(near.similarity, [10 / np.sqrt(101), 0], atol=1e-6)


def test_words_of_a_text_of_ones_own(tmp_path: Path) -> None:
    """Two sets of words that never meet: each word's nearest are of its own set."""
    random = np.random.default_rng(0)
    sets = (["red", "green", "blue", "grey"], ["one", "two", "three", "four"])
    lines = [" ".join(random.choice(sets[n % 2], 1500)) for n in range(100)]
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(lines))
    result = run_any(find("words_cbow"), tmp_path / "run", text=text, words=("red", "two"))
    details = json.loads((tmp_path / "run" / "metrics.json").read_text())
    shown = json.dumps(details)
    for word, same in (("red", sets[0]), ("two", sets[1])):
        (sentence,) = (s for s in result["conclusions"] if s.startswith(f"Nearest to '{word}'"))
        first = sentence.split(": ")[1].split(" ")[0]
        assert first in same
        assert word in shown
    measured = result["measured"]
    # Whoever knows the set knows that it is one of four words and not of eight.
    assert measured["held_out_surprise"] == pytest.approx(np.log(4), abs=0.1)
    assert measured["held_out_surprise_by_frequency"] == pytest.approx(np.log(8), abs=0.05)
    with np.load(tmp_path / "run" / "vectors.npz", allow_pickle=False) as kept:
        assert kept["vectors"].shape == (8, 100)
        assert sorted(kept["words"].tolist()) == sorted(sets[0] + sets[1])
    detector = aejax.load(tmp_path / "run" / "detector")
    assert detector.encode(np.ones((3, 11))).shape == (3, 100)
    with pytest.raises(InputError, match="word is 'rde'"):
        run_any(find("words_cbow"), tmp_path / "other", text=text, words=("rde",))


def test_other_recipes_take_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ecg5000: a text or words were given"):
        run_any(find("ecg5000"), tmp_path / "run", words=("red",))


@REAL
def test_hdfs_quick(tmp_path: Path) -> None:
    result = run_any(find("hdfs_cbow"), tmp_path / "run", quick=True)
    measured = result["measured"]
    # One epoch on a twelfth of the blocks is enough to be far from guessing.
    assert measured["auroc"] > 0.9
    assert measured["auroc_unseen"] > 0.75
    assert measured["auroc_of_counts"] > 0.9
    events = json.loads((tmp_path / "run" / "events.json").read_text())["events"]
    detector = aejax.load(tmp_path / "run" / "detector")
    assert detector.config.model.vocabulary == len(events) + 4
    page = (tmp_path / "run" / "report.html").read_text()
    assert "not seen in training" in page
