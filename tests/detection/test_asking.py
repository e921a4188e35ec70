"""Proposals that learn: right types, whole batches, and better than chance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest

from aejax.detection.cross_validation import Trial
from aejax.detection.tuning import BATCH, ask_and_tell, tune
from aejax.training.search_space import draw, parse_space

SPACE = parse_space(
    {
        "train.epochs": 1,
        "train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
        "train.noise": {"low": 0.0, "high": 1.0},
        "train.batch_size": {"low": 16, "high": 256},
        "model.hidden": {"choices": [[4], [8, 2], [16]]},
    }
)


def loss(trial: Trial) -> float:
    """A loss that is least at a learning rate of 1e-3, noise of 0.3 and widths of 8 and 2."""
    train = trial.config.train
    off = (math.log10(train.learning_rate) + 3) ** 2 + 4 * (train.noise - 0.3) ** 2
    return off + (trial.drawn.settings["model.hidden"] != [8, 2])


def judge(trials: Sequence[Trial]) -> list[Trial]:
    return [
        dataclasses.replace(trial, folds=(loss(trial),) * 2)
        if trial.config.train.learning_rate < 0.05
        else dataclasses.replace(trial, problem="the loss became nan at step 3")
        for trial in trials
    ]


# Optuna calls its own samplers' options experimental.
@pytest.mark.filterwarnings("ignore::Warning")
def test_proposals_are_settings_and_get_better_than_random_ones() -> None:
    pytest.importorskip("optuna")
    sizes: list[int] = []

    def counted(trials: Sequence[Trial]) -> list[Trial]:
        sizes.append(len(trials))
        return judge(trials)

    found = ask_and_tell(SPACE, 70, 3, counted, maximise=False)
    assert sizes == [BATCH] * 4 + [70 - 4 * BATCH]
    assert [trial.number for trial in found] == list(range(70))
    for trial in found:
        assert isinstance(trial.config.train.batch_size, int)
        assert trial.drawn.settings["model.hidden"] in ([4], [8, 2], [16])
        assert trial.config.train.seed == 3
    late = [trial.mean for trial in found[-22:] if trial.problem is None]
    random = [loss(Trial(number=0, drawn=drawn, length=1, rung=0)) for drawn in draw(SPACE, 500, 3)]
    assert np.median(late) < np.quantile(random, 0.2)
    again = ask_and_tell(SPACE, 20, 3, judge, maximise=False)
    assert [trial.drawn.settings for trial in again] == [t.drawn.settings for t in found[:20]]
    # Maximising looks elsewhere.
    other = ask_and_tell(SPACE, 70, 3, judge, maximise=True)
    assert np.median([t.mean for t in other[-22:] if t.problem is None]) > np.median(late)


@pytest.mark.filterwarnings("ignore::Warning")
def test_a_tuning_by_optuna() -> None:
    pytest.importorskip("optuna")
    space = parse_space(
        {
            "train.epochs": 2,
            "model.hidden": [4],
            "train.learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
        }
    )
    x = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    found = tune(space, x, configurations=3, folds=2, search="optuna")
    assert (found.search, len(found.trials), found.programs) == ("optuna", 3, 1)
    means = [trial.mean for trial in found.trials]
    assert means == sorted(means)
