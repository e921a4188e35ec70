"""What `hdfs_cbow` shows: tables, conclusions and a drawing; and the faults that it tries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.data.batches import host_random
from aejax.data.datasets import EventNumbers, HdfsBlocks, block_keys
from aejax.data.windows import Sequences
from aejax.reporting.report import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Fault = Callable[[np.ndarray, np.random.Generator, np.ndarray], np.ndarray]
AGAINST = ("all normal blocks", "those not seen in training")
# Scores below this, in nats, are drawn there.
LEAST_DRAWN = 1e-6


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


def _shown(area: Mapping[str, float]) -> str:
    return f"{area['value']:.4f} ({area['low']:.4f} to {area['high']:.4f})"


def auroc_table(auroc: Mapping[str, Any], remembered: tuple[Any, Any]) -> Table:
    """AUROC by model and by how a block's score is made."""
    lines = [
        (name, way, *map(_shown, areas))
        for name, by_way in auroc.items()
        for way, areas in by_way.items()
    ]
    lines.append(("whether the sequence occurs in training", "", *map(_shown, remembered)))
    return Table(
        title="AUROC of abnormal blocks, with 95 % intervals, by how a block's score is made of "
        "its events' surprises",
        head=("Model", "Score", *(f"Against {which}" for which in AGAINST)),
        lines=lines,
    )


def candidate_table(candidates: Sequence[Mapping[str, Any]], losses: Sequence[float]) -> Table:
    """What was chosen from."""
    return Table(
        title="Mean surprise, in nats, of the events of held-out normal blocks; the lowest was "
        "chosen",
        head=("Window", "Positions", "Weight decay", "Surprise"),
        lines=[
            (*settings.values(), f"{loss:.4f}")
            for settings, loss in zip(candidates, losses, strict=True)
        ],
    )


def fault_table(faults: Mapping[str, Mapping[str, float]]) -> Table:
    """How well faults are detected, by how a block's score is made."""
    ways = tuple(next(iter(faults.values())))
    mean = {way: float(np.mean([f[way] for f in faults.values()])) for way in ways}
    return Table(
        title="AUROC of faults put into held-out normal blocks; the best mean was chosen",
        head=("Fault", *ways),
        lines=[
            (name, *(f"{areas[way]:.4f}" for way in ways))
            for name, areas in {**faults, "mean": mean}.items()
        ],
    )


def block_table(blocks: HdfsBlocks, unseen: np.ndarray, events: EventNumbers) -> Table:
    """Counts of blocks and their events."""
    parts = {
        "normal, learned from": blocks.train,
        "normal, tested on": blocks.normal,
        "of these, not seen in training": blocks.normal.pick(np.flatnonzero(unseen)),
        "abnormal, tested on": blocks.abnormal,
    }
    lines = []
    for name, part in parts.items():
        strange = np.bincount(part.segments, ~np.isin(part.ids, events.events), minlength=len(part))
        different, lengths = len(set(block_keys(part))), part.lengths
        events_of = f"{lengths.min()} / {np.median(lengths):.0f} / {lengths.max()}"
        lines.append(
            (name, len(part), different, len(part.ids), events_of, int((strange > 0).sum()))
        )
    return Table(
        title="The blocks",
        head=(
            "Blocks",
            "How many",
            "Different sequences",
            "Events",
            "Events of a block: fewest / median / most",
            "With an event that training lacks",
        ),
        lines=lines,
    )


def conclusions(
    chosen: Mapping[str, Any],
    headline: str,
    auroc: Mapping[str, Any],
    remembered: float,
) -> tuple[str, ...]:
    """What the numbers say, a sentence each."""
    ours, theirs = (by_way for by_way in auroc.values())
    (_, counts) = auroc
    best = max(theirs, key=lambda way: theirs[way][1]["value"])
    wins = [ours[headline][k]["value"] > theirs[best][k]["value"] for k in range(2)]
    how = ("does not beat", "beats, on one of the two,", "beats, on both,")[sum(wins)]
    return (
        f"The {headline} of a block's surprises tells abnormal blocks from normal ones with AUROC "
        f"{_shown(ours[headline][0])}, and from normal blocks not seen in training with "
        f"{_shown(ours[headline][1])}.",
        f"It {how} the count model ({counts}), whose best score on blocks not seen in "
        f"training is the {best}, with {_shown(theirs[best][1])} (all: {_shown(theirs[best][0])}).",
        f"Remembering the training sequences alone gives {remembered:.4f} against all normal "
        "blocks and 0.5 against those not seen in training.",
        f"Held-out normal blocks chose a window of {chosen['window']} events on each side, "
        f"{chosen['positions']} of which with an embedding of their position.",
    )


def drawing(
    normal: np.ndarray, abnormal: np.ndarray, unseen: np.ndarray, headline: str
) -> tuple[str, str, Figure]:
    """How the scores of three groups of blocks are spread."""
    from aejax.reporting.style import ANOMALY, NORMAL, SECOND, house_style, legend_above, new_figure

    groups = {
        "normal, seen in training": (normal[~unseen], NORMAL),
        "normal, not seen": (normal[unseen], SECOND),
        "abnormal": (abnormal, ANOMALY),
    }
    with house_style():
        figure = new_figure(7.2, 3.2)
        axes = figure.subplots()
        for name, (scores, colour) in groups.items():
            if len(scores):
                share = np.arange(1, len(scores) + 1) / len(scores)
                axes.step(np.sort(np.maximum(scores, LEAST_DRAWN)), share, color=colour, label=name)
        axes.set_xscale("log")
        axes.set_xlabel(f"{headline} surprise of a block's events, nats")
        axes.set_ylabel("share of blocks up to this score")
        axes.set_ylim(0, 1.02)
        legend_above(axes)
    return (
        "Scores of the test blocks",
        "Cumulative shares. The further right the abnormal blocks' curve rises, the better they "
        "are separated.",
        figure,
    )
