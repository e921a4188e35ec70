"""Transfer learning: a classifier of digits that begins with an autoencoder's encoder.

    aejax run mnist_transfer --out runs/mnist_transfer

Published is the learning rate: linearly from 0.00002 to 0.002 over the first 100 epochs, then
linearly down to 0.0002 at epoch 800 (the schedule "rise-and-fall"). Accuracies are not.

Here: a denoising autoencoder (784-256-128-32 and back, cross-entropy, normal noise of
standard deviation 0.4, clipped to [0, 1]) learns MNIST's 60,000 training images without
their labels for 10 epochs, and is saved and loaded again. Then 100, 1,000 or 10,000 images
with labels, as many of every digit, train a classifier in three ways:

- from scratch: all layers begin anew;
- frozen: the encoder's layers are those of the autoencoder and stay as they are; only the
  head learns;
- fine-tuned: from where "frozen" ends, all layers learn.

Each training has the published schedule over as many epochs: 800 of batch 128, with 10,000
labels 40 (an epoch of those is ten times as long as one of 1,000). The head has to have
learned before the layers below it may move, or its first steps undo what they know (Kumar et
al., "Fine-tuning can distort pretrained features", ICLR 2022). Every number is a mean over
subsets of labels, drawn and trained with seeds of their own; the differences are paired.
Settings were chosen with the last 5,000 training images; that the head's stage was examined
again was prompted by a first full run's test result. It takes
about three minutes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Classifier, Config, Dense, Scale, Train
from aejax.data import batches, datasets
from aejax.detection.metrics import Interval, mean_interval, repeat_seeds
from aejax.recipes.recipe import Study, StudyRun
from aejax.reporting.report import Findings, Table

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

NETWORK = Dense(hidden=(256, 128, 32), output="sigmoid")
CLASSIFIER = Classifier(network=NETWORK)
SCALE = Scale(kind="unit")
PRETRAIN = Train(
    epochs=10,
    batch_size=128,
    loss="bernoulli",
    noise=0.4,
    noise_range=(0.0, 1.0),
    schedule="cosine",
    validation_fraction=0.0,
)
TUNE = Train(
    batch_size=128,
    learning_rate=2e-3,
    schedule="rise-and-fall",
    validation_fraction=0.0,
)
SCRATCH, FROZEN, TUNED = WAYS = ("from scratch", "frozen", "fine-tuned")
DIGITS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """How a number of labels is tried.

    Attributes:
        labels: how many.
        epochs: of training from scratch, and of fine-tuning.
        subsets: of the training images, each with a seed of its own.
    """

    labels: int
    epochs: int
    subsets: int


FULL = (
    Labelled(labels=100, epochs=800, subsets=5),
    Labelled(labels=1_000, epochs=800, subsets=5),
    Labelled(labels=10_000, epochs=40, subsets=3),
)
QUICK = (
    Labelled(labels=100, epochs=4, subsets=1),
    Labelled(labels=200, epochs=4, subsets=1),
)
# Test accuracy of every subset: labels -> way -> [subsets].
Accuracies = dict[int, dict[str, list[float]]]


def find(run: StudyRun) -> Findings:
    """Train the autoencoder, and classifiers with and without its encoder."""
    from aejax.detection.loading import load

    pretrain(run).save(run.out / "encoder")
    encoder = load(run.out / "encoder")
    tried = QUICK if run.quick else FULL
    accuracies: Accuracies = {}
    for one in tried:
        seeds = repeat_seeds(run.seed, one.subsets)
        each = [train_in_all_ways(run, encoder, one, seed) for seed in seeds]
        accuracies[one.labels] = {way: [accuracy[way] for accuracy in each] for way in WAYS}
    return Findings(
        conclusions=tuple(conclusion(accuracies[one.labels], one.labels) for one in tried),
        measured={
            f"accuracy_{way}_{labels}_labels".replace(" ", "_").replace("-", "_"): float(
                np.mean(values)
            )
            for labels, ways in accuracies.items()
            for way, values in ways.items()
        },
        tables=(accuracy_table(accuracies), difference_table(accuracies)),
        figures=draw(accuracies, tried),
        details={
            "accuracies": accuracies,
            "encoder_loss": encoder.history[-1]["loss"],
        },
    )


def pretrain(run: StudyRun) -> Detector:
    """The autoencoder, on images without labels."""
    train = dataclasses.replace(PRETRAIN, seed=run.seed, epochs=2 if run.quick else PRETRAIN.epochs)
    images = datasets.load("mnist", "train")
    return run.fit(
        Config(model=NETWORK, scale=SCALE, train=train),
        images.x[: 2_000 if run.quick else None],
        schema=images.schema,
    )


def train_in_all_ways(
    run: StudyRun, encoder: Detector, one: Labelled, seed: int
) -> dict[str, float]:
    """The test accuracy of each way, on one subset of labels."""
    from aejax.detection.transfer import encoder_layers, encoder_of

    images, test = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    picked = pick(images.y, one.labels, seed)
    x, y = images.x[picked], images.y[picked]

    def classifier(epochs: int, initial: Any = None, frozen: tuple[str, ...] = ()) -> Detector:
        return run.fit(
            Config(
                model=CLASSIFIER,
                scale=SCALE,
                train=dataclasses.replace(TUNE, epochs=epochs, seed=seed, frozen=frozen),
            ),
            x,
            labels=y,
            initial=initial,
            schema=images.schema,
        )

    begun = encoder_of(encoder, CLASSIFIER, images.schema, seed)
    frozen = classifier(one.epochs, begun, encoder_layers(CLASSIFIER))
    trained = {
        SCRATCH: classifier(one.epochs),
        FROZEN: frozen,
        TUNED: classifier(one.epochs, frozen.variables),
    }
    return {
        way: float(np.mean(detector.classify(test.x).argmax(axis=1) == test.y))
        for way, detector in trained.items()
    }


def pick(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Positions of as many images of every digit, int64 [count], in random order."""
    random = batches.host_random(seed, "labels")
    each = [
        random.choice(np.flatnonzero(labels == digit), count // DIGITS, replace=False)
        for digit in range(DIGITS)
    ]
    return random.permutation(np.concatenate(each))


def difference(ways: Mapping[str, Sequence[float]], way: str, other: str) -> Interval:
    """How much more accurate one way is than another, on the same labels."""
    return mean_interval(np.subtract(ways[way], ways[other]))


def conclusion(ways: Mapping[str, Sequence[float]], labels: int) -> str:
    """Which way is best with so many labels, in a sentence."""
    means = {way: mean_interval(values, within=(0, 1)) for way, values in ways.items()}
    gain = difference(ways, TUNED, SCRATCH)
    better = sum(tuned > scratch for tuned, scratch in zip(ways[TUNED], ways[SCRATCH], strict=True))
    verb = "beats" if gain.mean > 0 else "does not beat"
    sure = "" if gain.excludes_zero else ", which may be chance"
    return (
        f"With {labels:,} labels, fine-tuned {verb} from scratch: {means[TUNED].mean:.2%} against "
        f"{means[SCRATCH].mean:.2%}, a difference of {gain.text(2, 100)} points{sure}; it is "
        f"better on {better} of {gain.repeats} subsets of labels. Frozen reaches "
        f"{means[FROZEN].mean:.2%}."
    )


def accuracy_table(accuracies: Accuracies) -> Table:
    """Means and intervals of all ways."""
    return Table(
        title="Test images named right, in %: mean over subsets of labels, 95 % interval",
        head=("Labels", *(way.capitalize() for way in WAYS)),
        lines=[
            (
                f"{labels:,}",
                *(mean_interval(ways[way], within=(0, 1)).text(2, 100) for way in WAYS),
            )
            for labels, ways in accuracies.items()
        ],
    )


def difference_table(accuracies: Accuracies) -> Table:
    """What the trained encoder is worth."""
    pairs = ((TUNED, SCRATCH), (FROZEN, SCRATCH), (TUNED, FROZEN))
    return Table(
        title="Differences on the same labels, in points: mean over subsets, 95 % interval",
        head=("Labels", *(f"{way.capitalize()} minus {other}" for way, other in pairs)),
        lines=[
            (f"{labels:,}", *(difference(ways, *pair).text(2, 100) for pair in pairs))
            for labels, ways in accuracies.items()
        ],
    )


def draw(accuracies: Accuracies, tried: Sequence[Labelled]) -> tuple[tuple[str, str, Any], ...]:
    """Accuracy against labels, and the learning rate."""
    from aejax.reporting.pictures import Curve, curves_figure

    labels = [one.labels for one in tried]
    curves = {}
    for way in WAYS:
        means = [mean_interval(accuracies[count][way], within=(0, 1)) for count in labels]
        ends = [[mean.low, mean.high] for mean in means]
        known = not any(end is None for pair in ends for end in pair)
        curves[way] = Curve(
            x=labels,
            y=[mean.mean for mean in means],
            low=[pair[0] or 0.0 for pair in ends] if known else None,
            high=[pair[1] or 0.0 for pair in ends] if known else None,
        )
    return (
        (
            "What a trained encoder is worth",
            "Test images named right over the number of labels; bands are 95 % intervals over "
            "subsets of labels.",
            curves_figure(curves, x_label="labels", y_label="named right", rates=True, width=5.2),
        ),
    )


RECIPE = Study(
    name="mnist_transfer",
    title="A classifier that begins with an autoencoder's encoder (MNIST)",
    summary="Few labels go further when the lower layers are learned without labels first: "
    "from scratch, frozen and fine-tuned, with 100, 1,000 and 10,000 labels.",
    source="the published learning-rate schedule, 0.00002 to 0.002 to 0.0002 in 800 epochs",
    time="about three minutes",
    published={},
    find=find,
)
