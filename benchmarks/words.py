"""Word embeddings: how fast they are trained, and whose neighbours they find.

    python -m benchmarks.words [--text FILE] [--epochs 15] [--repeats 3] [--json FILE] [--plot FILE]

aejax (`aejax.recipes.words_cbow`) and gensim's Word2Vec (CBOW with 5 random words) learn from
the same words with the same window, width, epochs and subsampling. Systems take turns, each
repeat with a seed of its own. Neighbours are compared by overlap: of the ten words nearest to
each of the 300 most frequent, how many are the same; two runs of one system with different
seeds say how much there is to agree on. README.md says more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aejax.data.batches import host_random
from aejax.data.windows import UNKNOWN, Text, number_words, read_text, split_words, subsample
from aejax.recipes.words_cbow import (
    FREQUENT,
    LEAST_COUNT,
    MODEL,
    TRAIN,
    config_of,
    nearest,
)
from benchmarks import machine, options, report
from benchmarks.figures import spread

ASKED, NEAREST = 300, 10

Train = Callable[[Text, int, int], np.ndarray]


def train_aejax(text: Text, epochs: int, seed: int) -> np.ndarray:
    """Embeddings, float32 [words, width]."""
    from aejax.data.windows import windows
    from aejax.detection.fitting import fit

    kept = subsample(text, FREQUENT, host_random(seed, "subsample"))
    rows = windows(kept, MODEL.window).rows
    detector = fit(config_of(text.vocabulary, seed=seed, epochs=epochs), rows)
    vectors: np.ndarray = np.asarray(detector.variables["params"]["embedding"])[UNKNOWN + 1 :]
    return vectors


def train_gensim(workers: int) -> Train:
    """A peer's training with so many threads.

    Raises:
        ImportError: if gensim isn't there.
    """
    from gensim.models import Word2Vec

    def train(text: Text, epochs: int, seed: int) -> np.ndarray:
        model = Word2Vec(
            sentences_of(text),
            vector_size=MODEL.width,
            window=MODEL.window,
            min_count=1,
            sg=0,
            cbow_mean=int(MODEL.combine == "mean"),
            negative=MODEL.negatives,
            sample=FREQUENT,
            epochs=epochs,
            workers=workers,
            seed=seed + 1,
        )
        return np.stack([model.wv[word] for word in text.vocabulary.words])

    return train


def sentences_of(text: Text) -> list[list[str]]:
    """The known words of each sentence: what both systems learn from."""
    words = np.array(["", "", *text.vocabulary.words], dtype=object)
    parts = np.split(text.sentences.ids, text.sentences.bounds[1:-1])
    return [words[part[part > UNKNOWN]].tolist() for part in parts]


def overlap(text: Text, a: np.ndarray, b: np.ndarray) -> float:
    """Share of the nearest words that two embeddings have in common."""
    asked = [n + UNKNOWN + 1 for n in range(min(ASKED, len(text.vocabulary.words)))]
    found = [nearest(text.vocabulary, vectors, asked, NEAREST) for vectors in (a, b)]
    shared = [len({*x.words} & {*y.words}) / len(x.words) for x, y in zip(*found, strict=True)]
    return float(np.mean(shared))


def measure(text: Text, systems: dict[str, Train], epochs: int, repeats: int) -> dict[str, Any]:
    """Seconds of each run, and the neighbours' overlaps, of systems that take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    core_seconds: dict[str, list[float]] = {name: [] for name in systems}
    found: dict[str, list[np.ndarray]] = {name: [] for name in systems}
    order = list(systems)
    for seed in range(repeats):
        for name in order[seed % len(order) :] + order[: seed % len(order)]:
            options.say(f"{name}: run {seed + 1} of {repeats}")
            started, used = time.perf_counter(), time.process_time()
            found[name].append(systems[name](text, epochs, seed))
            seconds[name].append(time.perf_counter() - started)
            core_seconds[name].append(time.process_time() - used)
    known = int(text.vocabulary.counts.sum()) * epochs
    first, last = 0, repeats - 1
    return {
        "seconds": seconds,
        "core_seconds": core_seconds,
        "words_per_second": {
            # The first run of a process compiles, or loads; it is shown by itself.
            name: spread([known / s for s in (every[1:] or every)])
            for name, every in seconds.items()
        },
        "overlap": {
            name: {other: overlap(text, found[name][first], found[other][last]) for other in order}
            for name in order
        },
        "neighbours": {
            name: {
                near.word: list(near.words)
                for near in nearest(
                    text.vocabulary,
                    vectors[0],
                    list(range(100, min(1000, text.vocabulary.size), 75)),
                    5,
                )
            }
            for name, vectors in found.items()
        },
    }


def shown(results: dict[str, Any]) -> str:
    """The table in Markdown."""
    names = list(results["seconds"])
    rows = [
        [
            name,
            f"{results['seconds'][name][0]:.1f}",
            *report.rate_cells(results["words_per_second"][name]),
            f"{min(results['core_seconds'][name]):.1f}",
            *(f"{results['overlap'][name][other]:.2f}" for other in names),
        ]
        for name in names
    ]
    absent = [f"\n{name}: missing ({why})" for name, why in results["missing"].items()]
    head = [
        "system",
        "first s",
        "words/s",
        "spread",
        "core s",
        *(f"overlap with {name}" for name in names),
    ]
    return "\n".join([report.table(head, rows), *absent])


def draw(results: dict[str, Any], path: Path) -> None:
    """The rates as a PNG."""
    report.plot_spreads({"words a second, training": results["words_per_second"]}, path)


def main(arguments: Sequence[str] | None = None) -> None:
    found = options.parser("benchmarks.words", (__doc__ or "").splitlines()[0])
    found.set_defaults(repeats=3)
    found.add_argument("--text", type=Path, help="a text file; default Shakespeare")
    found.add_argument("--epochs", type=options.count, default=TRAIN.epochs)
    found.add_argument("--words", type=options.count, help="only so many of the first words")
    asked = found.parse_args(arguments)
    paragraphs = split_words(read_text(asked.text))
    if asked.words is not None:
        many = np.cumsum([len(part) for part in paragraphs])
        paragraphs = paragraphs[: int(np.searchsorted(many, asked.words)) + 1]
    text = number_words(paragraphs, LEAST_COUNT)
    systems: dict[str, Train] = {"aejax": train_aejax}
    missing = {}
    cores = machine.environment()["cores"]
    for name, workers in (("gensim, 1 thread", 1), (f"gensim, {cores} threads", cores)):
        try:
            systems[name] = train_gensim(workers)
        except ImportError as error:
            missing[name] = f"{type(error).__name__}: {error}"
    results = {
        "environment": machine.environment(),
        "text": {
            "words": len(text.sentences.ids),
            "known": int(text.vocabulary.counts.sum()),
            "vocabulary": len(text.vocabulary.words),
            "epochs": asked.epochs,
        },
        "missing": missing,
        **measure(text, systems, asked.epochs, asked.repeats),
    }
    report.keep(results, asked.json)
    if asked.plot:
        draw(results, asked.plot)
    print(shown(results))


if __name__ == "__main__":
    main()
