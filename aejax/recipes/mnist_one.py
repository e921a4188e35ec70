"""Ones against all other digits: four autoencoders that have only seen ones.

    aejax run mnist_one_plain --out runs/mnist_one_plain
    aejax run mnist_one_denoise --out runs/mnist_one_denoise
    aejax run mnist_one_denoise_input --out runs/mnist_one_denoise_input
    aejax run mnist_one_superres --out runs/mnist_one_superres

Published (a Qiita article on unsupervised anomaly detection with autoencoders): trained on
the 6,742 ones of MNIST's training part, judged on the 1,135 ones and the 8,865 other digits
of its test part, pixels in [0, 1]. The anomaly value is the mean *squared* error although
training minimises the mean *absolute* error. The threshold is the mean plus 3 standard
deviations of the *test* ones' anomaly values. 50 rounds of 10 steps of batch 675, Adam; the
shares of ones and of other digits judged right are measured after every round.

A batch of 675 makes 10 steps an epoch, the last one of 667 rows, so a round is an epoch.
The threshold is set on the rows that it judges, as published: the share of ones judged
right says how their errors are spread, and is no test of anything.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Config, Conv, Model, Scale, SuperResolution, Train
from aejax.data import datasets
from aejax.detection.threshold import fit_threshold
from aejax.recipes.recipe import Experiment, Figures, Recipe
from aejax.rules.mean_std import MeanStd

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

DIGIT = 1
ROUNDS = 50
BATCH_SIZE = 675
NOISE = 0.1
RULE = MeanStd(k=3)
# In the history, in `measured` and in what is published.
NORMAL, ANOMALOUS = "normal_judged_right", "anomalous_judged_right"


def recipe(
    name: str,
    *,
    title: str,
    summary: str,
    model: Model,
    published: tuple[float, float] | None,
    noise: float = 0.0,
    noise_on_target: bool = False,
    time: str = "about two minutes",
) -> Recipe:
    """One of the article's experiments, which differ in model and noise only.

    Args:
        name: on the command line.
        title: of the report.
        summary: one sentence.
        model: the network.
        published: shares of ones and of other digits judged right, or None.
        noise: standard deviation of the noise while training.
        noise_on_target: add it to what the output is compared with, as the article does,
            and not to the input, as it says.
        time: what to expect on two CPU cores.
    """
    rates = {} if published is None else dict(zip((NORMAL, ANOMALOUS), published, strict=True))
    return Recipe(
        name=name,
        title=title,
        summary=summary,
        source="a Qiita article on unsupervised anomaly detection, one run",
        time=time,
        published=rates,
        config=Config(
            model=model,
            scale=Scale(kind="unit"),
            train=Train(
                epochs=ROUNDS,
                batch_size=BATCH_SIZE,
                loss="absolute",
                noise=noise,
                noise_on="target" if noise_on_target else "input",
                validation_fraction=0.0,
            ),
            error="squared",
            rule=RULE,
        ),
        prepare=prepare,
        measure=measure,
        watch=rates_now,
        draw=functools.partial(draw, published=rates),
    )


def prepare(quick: bool) -> Experiment:
    """Ones to train on; all test digits to score; the test ones to set the threshold on."""
    train, test = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    x_train = train.x[train.y == DIGIT]
    kept = slice(1000 if quick else None)
    x_test, is_anomaly = test.x[kept], test.y[kept] != DIGIT
    return Experiment(
        x_train=x_train[:BATCH_SIZE] if quick else x_train,
        x_test=x_test,
        is_anomaly=is_anomaly,
        x_calibrate=x_test[~is_anomaly],
        schema=train.schema,
    )


def rates_now(detector: Detector, experiment: Experiment) -> dict[str, float]:
    """The shares of ones and of other digits that a detector judges right."""
    scores, is_anomaly = detector.score(experiment.x_test), experiment.is_anomaly
    assert is_anomaly is not None
    flagged = fit_threshold(RULE, scores[~is_anomaly]).flags(scores)
    return {
        NORMAL: float(np.mean(~flagged[~is_anomaly])),
        ANOMALOUS: float(np.mean(flagged[is_anomaly])),
    }


def measure(
    detector: Detector, experiment: Experiment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """The two rates after the last round, and what doesn't depend on the threshold."""
    return {
        NORMAL: metrics["normal_positive"]["recall"],
        ANOMALOUS: metrics["anomaly_positive"]["recall"],
        "auroc": metrics["auroc"]["value"],
        "loss": detector.history[-1]["loss"],
        "threshold": metrics["threshold"],
    }


def draw(detector: Detector, experiment: Experiment, *, published: Mapping[str, float]) -> Figures:
    """The two rates over the rounds, with the published ones as lines."""
    from aejax.reporting.pictures import rates_figure

    names = {NORMAL: "ones judged right", ANOMALOUS: "other digits judged right"}
    figure = rates_figure(
        {text: [row[key] for row in detector.history] for key, text in names.items()},
        {text: published[key] for key, text in names.items() if key in published},
        label="round",
    )
    last = detector.history[-1][ANOMALOUS]
    best = max(detector.history, key=lambda row: row[ANOMALOUS])
    title = (
        f"Other digits judged right: {last:.2%} after the last round, "
        f"at best {best[ANOMALOUS]:.2%} after round {best['epoch']}"
    )
    caption = (
        "The shares of test ones and of other test digits judged right after every round of 10 "
        "steps, with a threshold found anew each time."
        + (" Dotted lines: what the article reports of its run." if published else "")
    )
    return ((title, caption, figure),)


# Published (a Qiita article on unsupervised anomaly detection, one run): 98.68 % of the test
# ones and 97.13 % of the other test digits judged right.
#
# As published: Conv 8 + BatchNorm, max-pool 2, again, Conv 8 + BatchNorm, up-sample 2, Conv 8
# + BatchNorm, up-sample 2, Conv 8 + BatchNorm, Conv 1 with sigmoid; kernels of 3x3, ReLU
# before BatchNorm. All else as above.
MNIST_ONE_PLAIN = recipe(
    "mnist_one_plain",
    title="Ones against other digits: a plain autoencoder",
    summary="An autoencoder that has only seen ones meets all other digits.",
    model=Conv(channels=(8, 8), down="pool", batch_norm=True),
    published=(0.9868, 0.9713),
)


# Published (a Qiita article on unsupervised anomaly detection, one run): 98.68 % of the test
# ones and 97.59 % of the other test digits judged right.
#
# As published: the network of `mnist_one_plain`. The article speaks of a denoising
# autoencoder, whose *input* is noisy, but its program adds 0.1 x normal noise to the *target*
# and leaves the input clean; so does this recipe. Noise is drawn anew in every step and not
# cut off at [0, 1]. `mnist_one_denoise_input` does what the article speaks of. All else
# as above.
MNIST_ONE_DENOISE = recipe(
    "mnist_one_denoise",
    title="Ones against other digits: noise on the target",
    summary="An autoencoder that has only seen ones, trained to give them with noise added, "
    "meets all other digits.",
    model=Conv(channels=(8, 8), down="pool", batch_norm=True),
    noise=NOISE,
    noise_on_target=True,
    published=(0.9868, 0.9759),
)


# Nothing is published for it: the article behind `mnist_one_denoise` describes this, a
# denoising autoencoder, but its program adds the noise to the target. The same 0.1 x normal
# noise, drawn anew in every step, is added to the input here, and the clean image is the
# target. All else as above.
MNIST_ONE_DENOISE_INPUT = recipe(
    "mnist_one_denoise_input",
    title="Ones against other digits: noise on the input",
    summary="A denoising autoencoder that has only seen ones meets all other digits.",
    model=Conv(channels=(8, 8), down="pool", batch_norm=True),
    noise=NOISE,
    published=None,
)


# Published (a Qiita article on unsupervised anomaly detection, one run): 98.59 % of the test
# ones and 84.85 % of the other test digits judged right.
#
# As published: max-pool 4, up-sample 2, twice Conv 8 + BatchNorm, up-sample 2, twice Conv 8 +
# BatchNorm, Conv 1 with sigmoid; kernels of 3x3, ReLU before BatchNorm. All else
# as above.
MNIST_ONE_SUPERRES = recipe(
    "mnist_one_superres",
    title="Ones against other digits: super-resolution",
    summary="A network that has only learnt to restore shrunk ones meets all other digits.",
    model=SuperResolution(levels=2, convolutions=2, channels=8, batch_norm=True),
    published=(0.9859, 0.8485),
    time="about three minutes",
)
