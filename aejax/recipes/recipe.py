"""What a recipe states. Light to import, so that recipes can be listed at once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Config
from aejax.data.batches import data_fingerprint
from aejax.data.disk_rows import Stored
from aejax.data.places import Place
from aejax.data.schema import Schema
from aejax.reporting.report import Findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aejax.detection.detector import Detector


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """The rows of one experiment.

    Attributes:
        x_train: rows trained on.
        x_test: rows scored.
        schema: of all rows.
        is_anomaly: bool [test rows], or None where there are no labels.
        x_validation: rows for the validation loss; None holds out training rows.
        x_scale: rows that the scaler is fitted on; None takes the training rows.
        x_calibrate: rows that the threshold is set on; None leaves what `fit` chose.
        judged: what the test rows are, in words.
        alarms: sentences about the rows that the report should show.
        places: positions of test rows -> where each is in its file; None where there are no files.
    """

    x_train: Stored
    x_test: np.ndarray
    schema: Schema
    is_anomaly: np.ndarray | None = None
    x_validation: Stored | None = None
    x_scale: np.ndarray | None = None
    x_calibrate: Stored | None = None
    judged: str = "test rows"
    alarms: tuple[str, ...] = ()
    places: Callable[[np.ndarray], list[Place | None]] | None = None

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of the rows that a run is known by; they are hashed once, and don't change."""
        return {"train": data_fingerprint(self.x_train), "test": data_fingerprint(self.x_test)}


Measure = Callable[["Detector", Experiment, Mapping[str, Any]], dict[str, float]]
Watch = Callable[["Detector", Experiment], Mapping[str, float]]
Figures = tuple[tuple[str, str, "Figure"], ...]
Draw = Callable[["Detector", Experiment], Figures]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Published:
    """What is said of every published experiment.

    Attributes:
        name: on the command line.
        title: of the report.
        summary: one sentence.
        source: who published it, and where.
        time: what to expect on two CPU cores, in words.
        published: the published numbers, by name; empty where nothing was published.
    """

    name: str
    title: str
    summary: str
    source: str
    time: str
    published: Mapping[str, float]

    def subtitle(self, seed: int, quick: bool) -> str:
        """What a run's report says under its title."""
        quickly = " A quick run on a part of the rows: its numbers mean nothing." if quick else ""
        return f"{self.summary} Source: {self.source}. Seed {seed}.{quickly}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(_Published):
    """A published experiment of one detector.

    Attributes:
        config: all settings but the seed.
        prepare: whether it is a quick run -> the rows.
        measure: detector, rows and metrics -> our numbers, under the published names.
        watch: detector and rows after every epoch -> numbers for the history; or None.
        draw: detector and rows -> further figures of the report: title, caption, drawing;
            or None.
    """

    config: Config
    prepare: Callable[[bool], Experiment]
    measure: Measure
    watch: Watch | None = None
    draw: Draw | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyRun:
    """How a study is run.

    Attributes:
        out: its folder; what a study keeps there has names of its own.
        seed: of everything random.
        quick: a small part of everything, to see that it works.
        progress: whether to draw progress bars on stderr.
        should_stop: asked now and then by what trains; True makes it raise `Interrupted`.
        text: a file of the person's own, for studies of text; or None.
        words: those that a study of text tells about; none lets it choose.
    """

    out: Path
    seed: int = 0
    quick: bool = False
    progress: bool = False
    should_stop: Callable[[], bool] = lambda: False
    text: Path | None = None
    words: tuple[str, ...] = ()

    def fit(self, config: Config, x: Any, **how: Any) -> Detector:
        """As `aejax.fit`, with this run's progress bars and its way to be stopped."""
        from aejax.detection.fitting import fit

        return fit(config, x, progress=self.progress, should_stop=self.should_stop, **how)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(_Published):
    """A published experiment that takes more than one detector.

    Attributes:
        reads_text: whether it takes a text, and words to tell about.
        find: does everything, and says what came out; its `Findings` need neither title,
            subtitle, published numbers nor environment, which are the study's.
    """

    find: Callable[[StudyRun], Findings]
    reads_text: bool = False


def final_losses(detector: Detector) -> dict[str, float]:
    """Loss and validation loss of the last epoch."""
    last = detector.history[-1]
    return {name: last[name] for name in ("loss", "validation_loss") if name in last}
