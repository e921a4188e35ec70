"""Training rows that hold anomalies, and cells that are hidden: what `trim` and `hide` are for."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import aejax
from aejax.core import objectives, optimizers
from tests.plain import plain_config

NORMAL, ODD = 900, 100


def rows() -> np.ndarray:
    """Rows on one curved surface, and a tenth on another."""
    random = np.random.default_rng(0)
    parts = [
        np.tanh(random.normal(size=(count, 3))) @ random.normal(size=(3, 12))
        for count in (NORMAL, ODD)
    ]
    return np.concatenate(parts).astype(np.float32)


def separation(trim: float) -> float:
    """The odd rows' median score over the normal rows'."""
    train = aejax.Train(epochs=25, learning_rate=3e-3, validation_fraction=0.0, trim=trim)
    config = plain_config(model=aejax.Dense(hidden=(32, 6)), train=train)
    x = rows()
    scores = aejax.fit(config, x).score(x)
    return float(np.median(scores[NORMAL:]) / np.median(scores[:NORMAL]))


def test_a_trimmed_loss_does_not_learn_the_anomalies_in_its_rows() -> None:
    # Seen: 41 without, 2,110 with.
    assert separation(0.15) > 10 * separation(0.0)


@pytest.mark.parametrize("hide", [0.2, 0.7])
def test_hidden_cells_are_zero_and_still_the_target(hide: float) -> None:
    config = plain_config(train=aejax.Train(hide=hide))
    objective = objectives.objective_of(config)
    x = np.random.default_rng(0).normal(size=(500, 20)).astype(np.float32)
    fed = objectives.Fed(
        x=x,  # type: ignore[arg-type]
        target=None,
        mask=np.ones(500, bool),  # type: ignore[arg-type]
        key=jax.random.key(0),
        values=optimizers.numbers(config, 1),
    )
    seen, target = map(np.asarray, objectives._noisy(objective, fed))
    np.testing.assert_array_equal(target, x)
    assert np.mean(seen == 0) == pytest.approx(hide, abs=0.02)
    np.testing.assert_array_equal(seen[seen != 0], x[seen != 0])
