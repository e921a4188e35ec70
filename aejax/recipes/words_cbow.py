"""Word embeddings of any text by continuous bag of words.

    aejax run words_cbow --out runs/words_cbow [--text FILE] [--words king love]

Published (Mikolov et al., "Efficient estimation of word representations in vector space"
and "Distributed representations of words and phrases and their compositionality", both
2013): a word is predicted from the embeddings of the words around it; words that are used
alike get embeddings that lie alike. Their figures are of texts of billions of words and
can't be held against a small one; `python -m benchmarks.words` compares neighbours and
speed with gensim's implementation on the same text.

As in their program: windows of 5 words on each side, 100 dimensions, words that occur
less than five times left out, frequent words left out at random (threshold 0.001), 5 random
words to compare with. The neighbours' embeddings are averaged, gensim's default: summed ones
fit the held-out words worse. Unlike theirs: Adam; windows of full width, since nearer
neighbours need not be favoured by chance; random words drawn by rank instead of by a table
of frequencies. Without `--text`, the text is Shakespeare's, 200,000 words.

`vectors.npz` holds words, their counts and embeddings. It takes half a minute.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aejax.config import Config, Context, Scale, Train
from aejax.config.durable import refused_as_input, written_aside
from aejax.data.batches import host_random, validation_split
from aejax.data.windows import (
    UNKNOWN,
    Vocabulary,
    number_words,
    read_text,
    split_words,
    subsample,
    windows,
)
from aejax.recipes.recipe import Study, StudyRun
from aejax.reporting.report import Findings, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_COUNT = 5
FREQUENT = 1e-3
HELD_OUT = 0.05
NEIGHBOURS = 8
# The most frequent words of a language mean little; those reported come after them.
COMMON, SHOWN, DRAWN = 50, 12, 60
QUICK_WORDS = 20_000
MODEL = Context(window=5, width=100, combine="mean", negatives=5)
TRAIN = Train(epochs=15, batch_size=512, learning_rate=3e-3, schedule="linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Near:
    """A word's neighbours.

    Attributes:
        word: whose.
        words: the nearest words, the nearest first.
        similarity: their cosine similarities, float32 [words].
    """

    word: str
    words: tuple[str, ...]
    similarity: np.ndarray


def find(run: StudyRun) -> Findings:
    """Train on a text, and find the nearest words."""
    paragraphs = split_words(read_text(run.text))
    if run.quick:
        paragraphs = _first(paragraphs, QUICK_WORDS)
    text = number_words(paragraphs, LEAST_COUNT)
    vocabulary = text.vocabulary
    numbers = [vocabulary.number(word) for word in run.words] or _usual(vocabulary)
    epochs = 2 if run.quick else TRAIN.length
    rows = windows(subsample(text, FREQUENT, host_random(run.seed, "subsample")), MODEL.window).rows
    picked, held = validation_split(len(rows), HELD_OUT, run.seed)
    detector = run.fit(
        config_of(vocabulary, seed=run.seed, epochs=epochs),
        rows[picked],
        x_validation=rows[held],
    )
    detector.save(run.out / "detector")
    vectors = np.asarray(detector.variables["params"]["embedding"])[UNKNOWN + 1 :]
    _write_vectors(run.out / "vectors.npz", vocabulary, vectors)

    neighbours = nearest(vocabulary, vectors, numbers, NEIGHBOURS)
    rates = [epoch["rows_per_second"] for epoch in detector.history]
    known = int(vocabulary.counts.sum())
    measured = {
        "words": float(len(text.sentences.ids)),
        "vocabulary": float(len(vocabulary.words)),
        "windows": float(len(rows)),
        # Words as word2vec and gensim count them: those left out at random with the others.
        "words_per_second": float(np.median(rates)) * known / len(rows),
        "held_out_surprise": detector.history[-1]["validation_loss"],
        "held_out_surprise_by_frequency": _by_frequency(rows[picked], rows[held], vocabulary),
    }
    return Findings(
        conclusions=_conclusions(neighbours, measured, epochs),
        measured=measured,
        tables=(
            Table(
                title="Nearest words, with the cosine similarity of their embeddings",
                head=("Word", *(str(rank) for rank in range(1, NEIGHBOURS + 1))),
                lines=[
                    (
                        near.word,
                        *(
                            f"{word} {value:.2f}"
                            for word, value in zip(near.words, near.similarity, strict=True)
                        ),
                    )
                    for near in neighbours
                ],
            ),
        ),
        figures=(_map(vocabulary, vectors),),
        details={
            "nearest": {
                near.word: dict(zip(near.words, near.similarity.tolist(), strict=True))
                for near in neighbours
            }
        },
    )


def nearest(
    vocabulary: Vocabulary, vectors: np.ndarray, numbers: list[int], count: int
) -> list[Near]:
    """The words whose embeddings point most nearly the same way.

    Args:
        vocabulary: the words.
        vectors: their embeddings, float32 [words, width].
        numbers: words asked about, as `Vocabulary.number` gives them.
        count: how many of the nearest.
    """
    unit = normalised(vectors)
    asked = np.asarray(numbers) - UNKNOWN - 1
    similarity = unit[asked] @ unit.T
    similarity[np.arange(len(asked)), asked] = -np.inf
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(count, len(unit) - 1)]
    return [
        Near(
            word=vocabulary.words[word],
            words=tuple(vocabulary.words[other] for other in others),
            similarity=similarity[row, others],
        )
        for row, (word, others) in enumerate(zip(asked, order, strict=True))
    ]


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1; one of length 0 stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: np.ndarray = vectors / np.where(lengths > 0, lengths, 1)
    return unit


def _first(paragraphs: list[list[str]], words: int) -> list[list[str]]:
    """The first paragraphs, until they hold so many words."""
    many = np.cumsum([len(part) for part in paragraphs])
    return paragraphs[: int(np.searchsorted(many, words)) + 1]


def _usual(vocabulary: Vocabulary) -> list[int]:
    """Words to tell about where none were asked for: frequent, but not the most frequent."""
    first = min(COMMON, max(len(vocabulary.words) - SHOWN, 0))
    last = min(first + 8 * SHOWN, len(vocabulary.words))
    picked = np.unique(np.linspace(first, last - 1, SHOWN).astype(int))
    return [int(at) + UNKNOWN + 1 for at in picked]


def config_of(vocabulary: Vocabulary, *, seed: int, epochs: int) -> Config:
    """The study's settings for a text's words."""
    return Config(
        model=dataclasses.replace(MODEL, vocabulary=vocabulary.size),
        scale=Scale(kind="none"),
        train=dataclasses.replace(TRAIN, seed=seed, epochs=epochs),
    )


def _by_frequency(learned: np.ndarray, held: np.ndarray, vocabulary: Vocabulary) -> float:
    """Surprise of the held-out words to whoever knows only how frequent each word is."""
    middle = learned.shape[1] // 2
    counts = np.bincount(learned[:, middle], minlength=vocabulary.size) + 1.0
    return float(-np.mean(np.log(counts[held[:, middle]] / counts.sum())))


def _write_vectors(path: Path, vocabulary: Vocabulary, vectors: np.ndarray) -> None:
    with refused_as_input(path), written_aside(path) as file:
        np.savez(
            file,
            allow_pickle=False,
            words=np.array(vocabulary.words),
            counts=vocabulary.counts,
            vectors=vectors,
        )


def _conclusions(
    neighbours: list[Near], measured: dict[str, float], epochs: int
) -> tuple[str, ...]:
    less = measured["held_out_surprise_by_frequency"] - measured["held_out_surprise"]
    return (
        *(
            f"Nearest to {near.word!r}: "
            + ", ".join(
                f"{word} ({value:.2f})"
                for word, value in zip(near.words[:5], near.similarity, strict=False)
            )
            + "."
            for near in neighbours
        ),
        f"Held-out words surprise by {measured['held_out_surprise']:.3f} nats, "
        f"{abs(less):.3f} {'less' if less > 0 else 'more'} than their frequencies alone would.",
        f"{epochs} passes over {measured['words']:,.0f} words, at "
        f"{measured['words_per_second']:,.0f} words a second.",
    )


def _map(vocabulary: Vocabulary, vectors: np.ndarray) -> tuple[str, str, Figure]:
    from aejax.reporting.style import INK, NORMAL, house_style, new_figure

    first = min(COMMON, max(len(vectors) - DRAWN, 0))
    unit = normalised(vectors)[first : first + DRAWN]
    centred = unit - unit.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    x, y = (left * sizes)[:, :2].T
    share = np.square(sizes[:2]).sum() / np.square(sizes).sum()
    with house_style(**{"axes.grid": False}):
        figure = new_figure(7.2, 4.6)
        axes = figure.subplots()
        axes.scatter(x, y, s=8, color=NORMAL)
        words = vocabulary.words[first : first + DRAWN]
        apart = np.stack([x, y], axis=1) * [400 / np.ptp(x), 240 / np.ptp(y)]  # About points.
        taken: list[np.ndarray] = []
        for word, place, point in zip(words, zip(x, y, strict=True), apart, strict=True):
            # Beside its dot, where no word is yet.
            size = np.array([4.2 * len(word), 8])
            corners = [np.array([left, low]) for left in (3, -3 - size[0]) for low in (2, -9)]
            free = [c for c in corners if not any(_meet(point + c, size, box) for box in taken)]
            offset = (free or corners)[0]
            taken.append(np.concatenate([point + offset, size]))
            axes.annotate(
                word, place, xytext=tuple(offset), textcoords="offset points", color=INK, fontsize=7
            )
        axes.set_xlabel("first principal component")
        axes.set_ylabel("second")
    return (
        "Frequent words on a plane",
        f"{len(unit)} words after the {first} most frequent, by the two principal components of "
        f"their embeddings, which hold {share:.0%} of the variance: near here is only sometimes "
        "near in all dimensions.",
        figure,
    )


def _meet(corner: np.ndarray, size: np.ndarray, box: np.ndarray) -> bool:
    """Whether two boxes have a point in common; a box is its lower left corner and its size."""
    return bool(np.all((corner < box[:2] + box[2:]) & (box[:2] < corner + size)))


RECIPE = Study(
    name="words_cbow",
    title="Words by their neighbours",
    summary="A continuous bag of words gives words embeddings, near for words used alike.",
    source="Mikolov et al. 2013, 2013b; no figure of theirs is of a text this small",
    time="30 s",
    published={},
    find=find,
    reads_text=True,
)
