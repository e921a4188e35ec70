"""One configuration from several seeds, trained together: what `fit` makes of each alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import aejax
from aejax import Conformal
from aejax.config import Config, Dense, InputError, Train
from aejax.detection.seeds import fit_seeds

CONFIG = Config(model=Dense(hidden=(8, 2)), train=Train(epochs=3, batch_size=64))


def rows(seed: int, count: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(count, 6))).astype(np.float32)


def seeded(seed: int) -> Config:
    return dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, seed=seed))


@pytest.mark.parametrize(
    "given", [(), ("x_calibrate",), ("x_validation", "x_scale", "x_calibrate")]
)
def test_each_has_the_threshold_that_it_would_have_alone(given: tuple[str, ...]) -> None:
    """Rows to calibrate on are others than those held out, and their scores twice as large."""
    others = {
        "x_validation": rows(1, 90),
        "x_scale": rows(2, 150),
        "x_calibrate": rows(3, 120, scale=1.5),
    }
    how = {name: others[name] for name in given}
    x = rows(0, 400)
    population = fit_seeds([seeded(seed) for seed in (5, 6)], x, **how)
    for seed, found in zip((5, 6), population.detectors, strict=True):
        alone = aejax.fit(seeded(seed), x, **how)
        assert found is not None
        assert found.threshold is not None
        assert alone.threshold is not None
        assert found.threshold.rows == alone.threshold.rows
        assert found.threshold.value == pytest.approx(alone.threshold.value, rel=1e-3)
        np.testing.assert_allclose(found.score(x), alone.score(x), rtol=1e-2)


def test_too_few_rows_to_calibrate_on_are_refused_before_training() -> None:
    strict = dataclasses.replace(CONFIG, rule=Conformal(alpha=0.01))
    with pytest.raises(InputError, match="calibration scores: found 5"):
        fit_seeds([strict], rows(0, 4000), x_calibrate=rows(1, 5))
