"""Text to words to numbers."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from aejax.config import InputError, suggest
from aejax.data.windows import MOST_IDS, Sequences

UNKNOWN = 1
SHAKESPEARE = Path("text") / "shakespeare.txt"
# Letters of any script, with apostrophes and hyphens inside: "know't", "well-beloved".
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")


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
