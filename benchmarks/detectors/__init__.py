"""What `benchmarks.detection` compares: detectors of aejax, controls, and peers.

A detector is a function from a `Split`, a seed and whether to be quick to a score for every
test row; larger is more anomalous. It has one fixed configuration for all sets: nothing is
chosen by test labels.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Literal

from benchmarks.detectors.protocol import Scored, Split

Detect = Callable[[Split, int, bool], Scored]
Group = Literal["aejax", "control", "peer"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One detector of the comparison.

    Attributes:
        name: as given to `--detectors`.
        title: what it is.
        place: module of this folder and the name in it, as "module:NAME". A module is imported
            only when its turn comes, so a peer that is not installed is missing by itself.
        group: whose it is.
    """

    name: str
    title: str
    place: str
    group: Group

    def load(self) -> Detect:
        """The function.

        Raises:
            ImportError: if its library is not installed.
        """
        module, _, name = self.place.partition(":")
        detect: Detect = getattr(importlib.import_module(f"benchmarks.detectors.{module}"), name)
        return detect


def _entry(name: str, title: str, place: str, group: Group) -> tuple[str, Entry]:
    return name, Entry(name=name, title=title, place=place, group=group)


DEFAULT = "standard"
NEIGHBOURS = "pyod-knn"
# The default's configuration was chosen on `benchmarks.development_sets`, before any set that is
# reported was scored by it; the others stand beside it.
# Slow peers come last, so that a run that is stopped has the rest.
ENTRIES: dict[str, Entry] = dict(
    [
        _entry("standard", "what a person gets who says nothing", "with_aejax:standard", "aejax"),
        _entry("quick", "the effort quick", "with_aejax:quick", "aejax"),
        _entry("best", "the effort best: four networks", "with_aejax:best", "aejax"),
        _entry("dense", "mean of four d-128-64-128-d", "with_aejax:dense", "aejax"),
        _entry("dense-single", "one d-128-64-128-d", "with_aejax:single", "aejax"),
        _entry("dense-eight", "mean of eight d-128-64-128-d", "with_aejax:eight", "aejax"),
        _entry("dense-narrow", "mean of four d-64-32-64-d, no noise", "with_aejax:narrow", "aejax"),
        _entry("dense-wide", "mean of four d-256-256-d, noise 0.3", "with_aejax:wide", "aejax"),
        _entry("dense-whitened", "dense, residual whitened", "with_aejax:whitened", "aejax"),
        _entry(
            "wide-whitened", "dense-wide, residual whitened", "with_aejax:wide_whitened", "aejax"
        ),
        _entry("dense-neighbours", "dense, error and neighbours", "with_aejax:neighbours", "aejax"),
        _entry(
            "noisy-neighbours",
            "one d-128-64-128-d, noise 0.5, error and neighbours",
            "with_aejax:noisy_neighbours",
            "aejax",
        ),
        _entry(
            "conditioned",
            "one d-128-128-d that is given its noise's level, levels and neighbours",
            "with_aejax:conditioned",
            "aejax",
        ),
        _entry(
            "dense-trimmed",
            "dense, a tenth of each batch not learnt from",
            "with_aejax:trimmed",
            "aejax",
        ),
        _entry("trimmed-brief", "dense-trimmed, at most 10 epochs", "with_aejax:brief", "aejax"),
        _entry(
            "trimmed-neighbours",
            "dense-trimmed, error and neighbours",
            "with_aejax:trimmed_neighbours",
            "aejax",
        ),
        _entry(
            "contaminated",
            "dense, 400 steps, dropout 0.2, three tenths of each batch not learnt from",
            "with_aejax:contaminated",
            "aejax",
        ),
        _entry(
            "estimator", "one network: aejax's PyODAutoEncoder", "with_aejax:estimator", "aejax"
        ),
        _entry(
            "variational",
            "mean of four VAEs d-128-64-16-64-128-d",
            "with_aejax:variational",
            "aejax",
        ),
        _entry("untrained", "dense as initialised", "with_aejax:untrained", "control"),
        _entry("nearest", "mean distance from 5 training rows", "with_aejax:nearest", "control"),
        _entry("norm", "the scaled row's mean square", "with_aejax:norm", "control"),
        _entry("pyod-knn", "PyOD KNN", "with_pyod:neighbours", "peer"),
        _entry("pyod-pca", "PyOD PCA", "with_pyod:components", "peer"),
        _entry("pyod-iforest", "PyOD IForest", "with_pyod:forest", "peer"),
        _entry("pyod-autoencoder", "PyOD AutoEncoder", "with_pyod_networks:autoencoder", "peer"),
        _entry("pyod-vae", "PyOD VAE", "with_pyod_networks:variational", "peer"),
        _entry("pyod-deepsvdd", "PyOD DeepSVDD", "with_pyod_networks:one_class", "peer"),
    ]
)
