"""Sequences of numbered events or words, and the windows of neighbours around each of them.

Numbers start at 1; in a window 0 stands for what lies outside the sequence.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aejax.config import InputError, suggest

OUTSIDE = 0
# Numbers travel in rows of float32, which holds every whole number up to this one.
MOST_IDS = 1 << 24
UNKNOWN = 1
SHAKESPEARE = Path("text") / "shakespeare.txt"
# Letters of any script, with apostrophes and hyphens inside: "know't", "well-beloved".
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sequences:
    """Sequences of different lengths, one after the other in one array.

    Args:
        ids: numbers of all events, int32 [events].
        bounds: where each sequence begins, and at last where the last one ends, int64
            [sequences + 1], ascending from 0 to events.

    Example:
        >>> two = Sequences.of([[5, 7], [9]])
        >>> two.ids.tolist(), two.bounds.tolist(), len(two)
        ([5, 7, 9], [0, 2, 3], 2)
    """

    ids: np.ndarray
    bounds: np.ndarray

    def __post_init__(self) -> None:
        bounds = self.bounds
        if not len(bounds) or bounds[0] != 0 or bounds[-1] != len(self.ids):
            raise InputError(
                f"Sequences.bounds is {bounds!r}; allowed: from 0 to {len(self.ids)} events"
            )
        if np.any(np.diff(bounds) < 0):
            raise InputError("Sequences.bounds goes down; allowed: ascending positions")

    @staticmethod
    def of(lists: Iterable[Sequence[int] | np.ndarray]) -> Sequences:
        """The sequences in a list of lists."""
        arrays = [np.asarray(one, np.int32) for one in lists]
        bounds = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        ids = np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
        return Sequences(ids=ids, bounds=bounds)

    def __len__(self) -> int:
        """How many sequences there are."""
        return len(self.bounds) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Events in each sequence, int64 [sequences]."""
        return np.diff(self.bounds)

    @property
    def segments(self) -> np.ndarray:
        """Which sequence each event belongs to, int64 [events]."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def pick(self, which: np.ndarray) -> Sequences:
        """Some of the sequences, by position, in the order asked for."""
        which = np.asarray(which, np.int64)
        lengths = self.lengths[which]
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(self.bounds[which] - bounds[:-1], lengths)
        return Sequences(ids=self.ids[np.arange(bounds[-1]) + shift], bounds=bounds)

    def enclosed(self, first: int, last: int) -> Sequences:
        """Every sequence with a mark before its first event and one after its last."""
        bounds = self.bounds + 2 * np.arange(len(self) + 1)
        ids = np.empty(bounds[-1], np.int32)
        ids[np.arange(len(self.ids)) + 2 * self.segments + 1] = self.ids
        ids[bounds[:-1]], ids[bounds[1:] - 1] = first, last
        return Sequences(ids=ids, bounds=bounds)

    def without_ends(self) -> np.ndarray:
        """Positions of all events but every sequence's first and last, int64 [positions].

        These are the events themselves in what `enclosed` returns.
        """
        kept = np.ones(len(self.ids), bool)
        filled = self.lengths > 0
        kept[self.bounds[:-1][filled]] = False
        kept[self.bounds[1:][filled] - 1] = False
        return np.flatnonzero(kept)


class Windows(NamedTuple):
    """Events with their neighbours.

    Attributes:
        rows: int32 [n, 2 * window + 1], the event itself in the middle; 0 is outside.
        segments: which sequence each row belongs to, int64 [n], ascending.
    """

    rows: np.ndarray
    segments: np.ndarray


def windows(sequences: Sequences, window: int, positions: np.ndarray | None = None) -> Windows:
    """Each event with its neighbours in the same sequence.

    Args:
        sequences: numbers from 1 to 2**24.
        window: neighbours on each side.
        positions: of the events that get a row, ascending; None takes all.

    Raises:
        InputError: if a number is out of range.

    Example:
        >>> windows(Sequences.of([[5, 7], [9]]), 1).rows.tolist()
        [[0, 5, 7], [5, 7, 0], [0, 9, 0]]
    """
    ids = sequences.ids
    wrong = np.flatnonzero((ids <= OUTSIDE) | (ids > MOST_IDS))
    if len(wrong):
        raise InputError(f"event {wrong[0]} has number {ids[wrong[0]]}; allowed: 1 to {MOST_IDS}")
    if positions is None:
        positions = np.arange(len(ids))
    segments = np.searchsorted(sequences.bounds, positions, side="right") - 1
    first, after = sequences.bounds[segments], sequences.bounds[segments + 1]
    rows = np.empty((len(positions), 2 * window + 1), np.int32)
    # One neighbour at a time: an array of all positions would be twice the size of the rows.
    for column, offset in enumerate(range(-window, window + 1)):
        there = positions + offset
        inside = (there >= first) & (there < after)
        rows[:, column] = np.where(inside, ids.take(there, mode="clip"), OUTSIDE)
    return Windows(rows=rows, segments=segments)


def mean_by_segment(values: np.ndarray, segments: np.ndarray, count: int) -> np.ndarray:
    """Mean of each sequence's values, float64 [count]; NaN for one that has none.

    Args:
        values: of the events, [n].
        segments: which sequence each belongs to, [n].
        count: how many sequences there are.
    """
    many = np.bincount(segments, minlength=count)
    total = np.bincount(segments, weights=values, minlength=count)
    return np.divide(total, many, out=np.full(count, np.nan), where=many > 0)


def top_by_segment(values: np.ndarray, segments: np.ndarray, count: int, top: int) -> np.ndarray:
    """Mean of each sequence's `top` largest values, float64 [count].

    A sequence with fewer values is averaged over those; one that has none gets NaN. With
    `top=1` this is the largest.
    """
    order = np.lexsort((-values, segments))
    sorted_segments = segments[order]
    many = np.bincount(segments, minlength=count)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(many) - many, many)
    kept = rank < top
    return mean_by_segment(values[order][kept], sorted_segments[kept], count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words that a model knows, numbered from 2 by frequency; 1 is any other word.

    Args:
        words: the most frequent first.
        counts: how often each occurred, int64 [words].
        others: how many words of the text are none of these.
    """

    words: tuple[str, ...]
    counts: np.ndarray
    others: int

    @property
    def size(self) -> int:
        """How many numbers there are, with 0 for what lies outside a window."""
        return len(self.words) + UNKNOWN + 1

    def number(self, word: str) -> int:
        """The number of a word.

        Raises:
            InputError: if the text has no such word often enough, with the nearest.
        """
        if word not in self.words:
            raise InputError(f"word is {word!r}; {suggest(word, self.words)}")
        return self.words.index(word) + UNKNOWN + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """A text as numbered words.

    Attributes:
        vocabulary: its words.
        sentences: their numbers; windows don't reach from one sentence into another.
    """

    vocabulary: Vocabulary
    sentences: Sequences


def split_words(text: str) -> list[list[str]]:
    r"""Lower-case words of each paragraph; blank lines part paragraphs.

    Example:
        >>> split_words("Speak, speak.\n\nWe know't!")
        [['speak', 'speak'], ['we', "know't"]]
    """
    paragraphs = re.split(r"\n\s*\n", text.lower().replace("\u2019", "'"))
    words = (_WORD.findall(part) for part in paragraphs)
    return [part for part in words if part]


def number_words(paragraphs: list[list[str]], least_count: int = 5) -> Text:
    """Number words by frequency, equally frequent ones by the alphabet.

    Args:
        paragraphs: as `split_words` gives them.
        least_count: words that are rarer become the unknown word.

    Raises:
        InputError: if no word is left, or more than can be numbered.
    """
    counted = Counter(itertools.chain.from_iterable(paragraphs))
    order = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    kept = [(word, count) for word, count in order if count >= least_count]
    if not kept or len(kept) >= MOST_IDS:
        raise InputError(
            f"{len(kept)} words occur at least {least_count} times; allowed: 1 to {MOST_IDS - 1}"
        )
    numbers = {word: number for number, (word, _) in enumerate(kept, start=UNKNOWN + 1)}
    bounds = np.cumsum([0, *map(len, paragraphs)], dtype=np.int64)
    flat = itertools.chain.from_iterable(paragraphs)
    ids = np.fromiter((numbers.get(word, UNKNOWN) for word in flat), np.int32, bounds[-1])
    counts = np.array([count for _, count in kept], np.int64)
    return Text(
        vocabulary=Vocabulary(
            words=tuple(numbers),
            counts=counts,
            others=int(len(ids) - counts.sum()),
        ),
        sentences=Sequences(ids=ids, bounds=bounds),
    )


def read_text(path: Path | None = None) -> str:
    """A text file in UTF-8; None reads Shakespeare from `$AEJAX_DATA_DIR/text/`.

    Raises:
        InputError: if there is no such file, or it isn't text.
    """
    if path is None:
        if not (folder := os.environ.get("AEJAX_DATA_DIR")):
            raise InputError(
                f"AEJAX_DATA_DIR is not set; allowed: a folder with {SHAKESPEARE}, "
                "or a text of your own (--text FILE)"
            )
        path = Path(folder) / SHAKESPEARE
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; allowed: a text file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable as UTF-8 text: {error}") from error


def subsample(text: Text, threshold: float, random: np.random.Generator) -> Sequences:
    """The text as word2vec learns from it: without unknown words, and with fewer frequent ones.

    A word of relative frequency f stays with probability sqrt(t / f) + t / f (Mikolov et al.,
    "Distributed representations of words and phrases and their compositionality", 2013,
    section 2.3, as their program and gensim compute it); so rarer words come closer.

    Args:
        text: numbered.
        threshold: t; 0 leaves out unknown words only.
        random: of what stays.
    """
    sentences, counts = text.sentences, text.vocabulary.counts
    share = np.inf if threshold == 0 else threshold * counts.sum() / counts
    stays = np.zeros(text.vocabulary.size)
    stays[UNKNOWN + 1 :] = np.minimum(np.sqrt(share) + share, 1)
    kept = random.random(len(sentences.ids)) < stays[sentences.ids]
    ends = np.concatenate([[0], np.cumsum(kept)])
    return Sequences(ids=sentences.ids[kept], bounds=ends[sentences.bounds])
