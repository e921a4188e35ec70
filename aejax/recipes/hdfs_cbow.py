"""Abnormal blocks of the Hadoop file system's log, by the surprise of their events.

    aejax run hdfs_cbow --out runs/hdfs_cbow

The data: HDFS log blocks (Xu et al., SOSP 2009), 4,855 normal ones to learn from, 3,366
further normal ones and 16,838 abnormal ones to tell apart. The model: continuous bag of
words (Mikolov et al., "Efficient estimation of word representations in vector space",
2013), which predicts an event from those around it. Nothing is published for this split. A
count model with back-off is measured beside it, and what remembering the training sequences
gives: 2,993 of the further normal blocks occur in training; the other 373 are measured apart.

Blocks get a mark before their first event and one after their last, so that a block that
breaks off is surprising. The first block of each event is learned from once more with that
event made unknown; this gives events never seen a small probability of their own
(`EventNumbers.with_unknown`).

Chosen without labels and without the blocks that are tested on: three in ten of the
training sequences are held out, each counted once; the settings are those of `CANDIDATES`
that find them least surprising. Faults are put into the held-out blocks, and how a block's
score is made of its events' surprises is what tells them best from the blocks as they were.
The model is then trained again on all training blocks. It takes about three minutes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Config, Context, InputError, Scale, Train
from aejax.config.durable import write_file
from aejax.data.batches import host_random
from aejax.data.datasets import BEGIN, END, EventNumbers, HdfsBlocks, block_keys, load_hdfs
from aejax.data.windows import Sequences, Windows, mean_by_segment, top_by_segment, windows
from aejax.detection.metrics import evaluate
from aejax.recipes import hdfs_report
from aejax.recipes.hdfs_report import FAULTS, with_fault
from aejax.recipes.recipe import Study, StudyRun
from aejax.reporting.report import Findings

if TYPE_CHECKING:
    from aejax.detection.detector import Detector


HELD_OUT = 0.3
# From the first mark to the last of the longest training block.
WHOLE_BLOCK = 43


# A model of counts with back-off: what a context model has to beat to be worth training.
#
# The probability of an event between its nearest neighbours is how often it stood between
# these in training; a context seen seldom, or never, leans on the context one neighbour
# narrower on each side (Witten and Bell, "The zero-frequency problem", 1991, method C).
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings to choose from."""

    window: int
    positions: int
    weight_decay: float = 0.03


CANDIDATES = (
    Candidate(window=2, positions=0),
    Candidate(window=5, positions=0),
    Candidate(window=5, positions=5),
    Candidate(window=WHOLE_BLOCK, positions=0),
    Candidate(window=WHOLE_BLOCK, positions=1),
    Candidate(window=WHOLE_BLOCK, positions=1, weight_decay=0.1),
    Candidate(window=WHOLE_BLOCK, positions=2),
)
COUNTED_NEIGHBOURS = (1, 2, 3, 4, 5)
EPOCHS = 20

Surprise = Callable[[np.ndarray], np.ndarray]
Combine = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
COMBINED: dict[str, Combine] = {
    "mean": mean_by_segment,
    "max": lambda values, segments, blocks: top_by_segment(values, segments, blocks, 1),
    "top 3": lambda values, segments, blocks: top_by_segment(values, segments, blocks, 3),
    "top 5": lambda values, segments, blocks: top_by_segment(values, segments, blocks, 5),
    "sum": lambda values, segments, blocks: np.bincount(segments, values, minlength=blocks),
}


def find(run: StudyRun) -> Findings:
    """Choose settings on held-out normal blocks, train, and score the test blocks."""
    blocks = _small(load_hdfs(), run.seed) if run.quick else load_hdfs()
    events = EventNumbers.of(blocks.train)
    train, normal, abnormal = map(events.number, (blocks.train, blocks.normal, blocks.abnormal))
    known = set(block_keys(blocks.train))
    unseen = np.array([key not in known for key in block_keys(blocks.normal)])

    learned, held = _hold_out(train, run.seed)
    candidates = CANDIDATES[-2:] if run.quick else CANDIDATES
    models = [_trained(run, c, learned, events) for c in candidates]
    losses = [
        _surprise_of(m.score, held, c.window) for m, c in zip(models, candidates, strict=True)
    ]
    best = int(np.argmin(losses))
    settings = [dataclasses.asdict(candidate) for candidate in candidates]
    chosen = candidates[best]
    faults = _faults(models[best].score, held, chosen.window, events, run.seed)
    headline = max(COMBINED, key=lambda name: float(np.mean([f[name] for f in faults.values()])))

    detector = _trained(run, chosen, train, events)
    detector.save(run.out / "detector")
    write_file(run.out / "events.json", json.dumps(dataclasses.asdict(events)) + "\n")
    counts, neighbours = _counted(learned, held, train, events)
    scores = {
        "context model": _scores(detector.score, normal, abnormal, chosen.window),
        f"counts, {neighbours} neighbours a side": _scores(
            counts, normal, abnormal, max(COUNTED_NEIGHBOURS)
        ),
    }
    auroc = {
        name: {way: _auroc(pair, unseen) for way, pair in by_way.items()}
        for name, by_way in scores.items()
    }
    remembered = _auroc(
        (unseen, np.array([key not in known for key in block_keys(blocks.abnormal)])), unseen
    )
    ours, theirs = auroc.values()
    measured = {
        "auroc": ours[headline][0]["value"],
        "auroc_unseen": ours[headline][1]["value"],
        "auroc_of_counts": theirs[headline][0]["value"],
        "auroc_unseen_of_counts": theirs[headline][1]["value"],
        "auroc_of_remembering": remembered[0]["value"],
        "held_out_surprise": losses[best],
    }
    return Findings(
        conclusions=hdfs_report.conclusions(
            settings[best], headline, auroc, remembered[0]["value"]
        ),
        measured=measured,
        tables=(
            hdfs_report.auroc_table(auroc, remembered),
            hdfs_report.candidate_table(settings, losses),
            hdfs_report.fault_table(faults),
            hdfs_report.block_table(blocks, unseen, events),
        ),
        figures=(hdfs_report.drawing(*scores["context model"][headline], unseen, headline),),
        details={
            "headline": headline,
            "chosen": settings[best],
            "neighbours_counted": neighbours,
            "auroc": auroc,
            "faults": faults,
            "candidates": [
                {**one, "held_out_surprise": loss}
                for one, loss in zip(settings, losses, strict=True)
            ],
        },
    )


def _small(blocks: HdfsBlocks, seed: int) -> HdfsBlocks:
    def some(part: Sequences, name: str) -> Sequences:
        return part.pick(np.sort(host_random(seed, name).permutation(len(part))[:400]))

    return HdfsBlocks(
        train=some(blocks.train, "train"),
        normal=some(blocks.normal, "normal"),
        abnormal=some(blocks.abnormal, "abnormal"),
    )


def _hold_out(train: Sequences, seed: int) -> tuple[Sequences, Sequences]:
    """Blocks to learn from, and blocks of other sequences, each once."""
    _, first, sequence = np.unique(block_keys(train), return_index=True, return_inverse=True)
    held = host_random(seed, "held out").random(len(first)) < HELD_OUT
    return train.pick(np.flatnonzero(~held[sequence])), train.pick(np.sort(first[held]))


def _windows(blocks: Sequences, window: int) -> Windows:
    marked = blocks.enclosed(BEGIN, END)
    return windows(marked, window, marked.without_ends())


def _trained(
    run: StudyRun, candidate: Candidate, blocks: Sequences, events: EventNumbers
) -> Detector:
    config = Config(
        model=Context(
            vocabulary=events.vocabulary,
            window=candidate.window,
            positions=candidate.positions,
            width=32,
            hidden=(128,),
        ),
        scale=Scale(kind="none"),
        train=Train(
            epochs=1 if run.quick else EPOCHS,
            batch_size=256,
            optimizer="adamw",
            learning_rate=0.01,
            schedule="cosine",
            weight_decay=candidate.weight_decay,
            validation_fraction=0.0,
            seed=run.seed,
        ),
    )
    rows = _windows(events.with_unknown(blocks), candidate.window).rows
    return run.fit(config, rows)


def _combined(surprise: Surprise, blocks: Sequences, window: int) -> dict[str, np.ndarray]:
    """Each block's score, made of its events' surprises in every way."""
    rows, segments = _windows(blocks, window)
    values = surprise(rows).astype(np.float64)
    return {name: made(values, segments, len(blocks)) for name, made in COMBINED.items()}


def _surprise_of(surprise: Surprise, blocks: Sequences, window: int) -> float:
    """Mean surprise of all events of some blocks."""
    return float(np.mean(surprise(_windows(blocks, window).rows), dtype=np.float64))


def _faults(
    surprise: Surprise, held: Sequences, window: int, events: EventNumbers, seed: int
) -> dict[str, dict[str, float]]:
    """AUROC of blocks with a fault against the blocks as they were: fault -> way -> AUROC."""
    from sklearn.metrics import roc_auc_score

    numbers = np.arange(1, events.vocabulary)
    numbers = numbers[(numbers != BEGIN) & (numbers != END)]
    sound = _combined(surprise, held, window)
    labels = np.repeat([0, 1], len(held))
    faults = {}
    for name in FAULTS:
        faulty = _combined(surprise, with_fault(name, held, numbers, seed), window)
        faults[name] = {
            way: float(roc_auc_score(labels, np.concatenate([sound[way], faulty[way]])))
            for way in COMBINED
        }
    return faults


def _counted(
    learned: Sequences, held: Sequences, train: Sequences, events: EventNumbers
) -> tuple[Surprise, int]:
    """The count model, with as many neighbours as find the held-out blocks least surprising."""
    window = max(COUNTED_NEIGHBOURS)

    def made(blocks: Sequences, neighbours: int) -> Surprise:
        choices = len(events.events) + 1
        rows = _windows(blocks, window).rows
        return count(rows, neighbours, events.vocabulary, choices).surprise

    best = min(COUNTED_NEIGHBOURS, key=lambda n: _surprise_of(made(learned, n), held, window))
    return made(train, best), best


def _scores(
    surprise: Surprise, normal: Sequences, abnormal: Sequences, window: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores of normal and abnormal blocks, by the way they are made of their events'."""
    both = (_combined(surprise, blocks, window) for blocks in (normal, abnormal))
    of_normal, of_abnormal = both
    return {way: (of_normal[way], of_abnormal[way]) for way in COMBINED}


def _auroc(pair: tuple[np.ndarray, np.ndarray], unseen: np.ndarray) -> tuple[Any, Any]:
    """Against all normal blocks, and against those not seen in training; with intervals."""
    areas = []
    for normal in (pair[0], pair[0][unseen]):
        scores = np.concatenate([normal, pair[1]]).astype(np.float64)
        labels = np.repeat([0, 1], [len(normal), len(pair[1])])
        areas.append(evaluate(scores, labels, None)["auroc"])
    return areas[0], areas[1]


RECIPE = Study(
    name="hdfs_cbow",
    title="Abnormal log blocks by the surprise of their events",
    summary="A continuous bag of words predicts each event of a log block from those around it.",
    source="Mikolov et al. 2013 (the model); Xu et al. 2009 (the log); a count model to beat",
    time="3 min",
    published={},
    find=find,
)
