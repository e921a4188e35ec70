"""A configuration that is cheap to compile and to train: what most tests need of one."""

from __future__ import annotations

from typing import Any

from aejax.config import Config, Dense, Scale, Train


def plain_config(**settings: Any) -> Config:
    """A dense network that is scored by its error, with rows held out for its threshold.

    The package's default is another network, which takes longer to compile, and for few rows
    trains five times more to set a threshold. Tests that mean it say `Config()`.

    Args:
        settings: as in `Config`.
    """
    own = {"model": Dense(), "train": Train(), "scale": Scale(), "calibration": "held-out"}
    return Config(**own | settings)
