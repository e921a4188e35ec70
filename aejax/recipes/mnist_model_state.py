"""Anomalies in the state of a trained network's neurons.

    aejax run mnist_model_state --out runs/mnist_model_state

Published (an article on detecting anomalies in the state of a trained network's neurons):
a plain classifier of MNIST, two hidden dense layers, the first of 32 units, 8 epochs; four
kinds of anomalous digits by pixel noise that grows from invisible to plainly visible; the
activations of both layers for every image; an isolation forest and a supervised network
that tell normal from anomalous. The article gives no figure that this could be held
against; what is asked is which view of an image tells its noise best.

Here: the second layer has 32 units too. The classifier learns from the first 50,000
training images, the detectors from what they see of the other 10,000, so that states are
those of images that the network doesn't know. Noise is normal, added to pixels in [0, 1],
clipped to that range and rounded to whole grey levels, of standard deviation 0.02
(invisible), 0.1, 0.3 and 0.6. Half of the 10,000 test images stay as they are, the other
half get noise. Every pixel and every neuron is scaled to mean 0 and standard deviation 1, so
that a pixel that hardly ever changes weighs as much as any other. The autoencoder and the
isolation forest (scikit-learn's) learn from normal images only; the supervised network from
10,000 images of which half carry the very noise that it is tested on, which makes it a bound
rather than a rival. Everything is repeated with other seeds: classifier, split, noise and
detectors.

A first full run, with pixels in [0, 1], gave the autoencoder AUROC 0.5 at the weakest noise;
the scaling was changed after that, and checked on training images.

The first repeat's classifier is kept in `classifier/`, for `aejax states`. It takes about
two minutes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aejax.config import Classifier, Config, Dense, Scale, Train
from aejax.data import batches, datasets
from aejax.detection.metrics import Interval, evaluate, mean_interval, repeat_seeds
from aejax.recipes.recipe import Study, StudyRun
from aejax.reporting.report import Findings, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aejax.detection.detector import Detector

CLASSIFIER = Classifier(network=Dense(hidden=(32, 32)))
LAYERS = ("network/encoder_0", "network/encoder_1")
LEARNED = 50_000
FALSE_ALARMS = 0.01
PIXELS = 28 * 28
NOISES = (0.02, 0.1, 0.3, 0.6)
VIEWS = ("pixels", "layer 1", "layer 2", "both layers")
DETECTORS = ("autoencoder", "isolation forest", "supervised")
QUALITIES = {"auroc": "AUROC", "found": "Found at 1 % false alarms"}
# Where in the results a number is: detector, view, noise.
Place = tuple[str, str, float]
Result = Mapping[Place, Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything.

    Attributes:
        repeats: with other seeds.
        learned: images that the classifier learns from.
        seen: images that the detectors learn from.
        tested: images that they are tested on.
        epochs: of the classifier, of an autoencoder, and of a supervised detector.
    """

    repeats: int
    learned: int
    seen: int
    tested: int
    epochs: tuple[int, int, int]


FULL = Size(repeats=5, learned=LEARNED, seen=10_000, tested=10_000, epochs=(8, 40, 15))
QUICK = Size(repeats=1, learned=2_000, seen=500, tested=500, epochs=(2, 2, 2))


def find(run: StudyRun) -> Findings:
    """Train classifiers and detectors, and compare the views."""
    size = QUICK if run.quick else FULL
    results, accuracies = [], []
    for number, seed in enumerate(repeat_seeds(run.seed, size.repeats)):
        classifier, accuracy = train_classifier(run, size, seed)
        if number == 0:
            classifier.save(run.out / "classifier")
        accuracies.append(accuracy)
        results.append(compare(run, size, classifier, seed))
    return Findings(
        conclusions=(
            f"The classifier names {mean_interval(accuracies).text(2, 100)} % of the test "
            f"images right (mean of {repeats(results)}).",
            *(conclusion(results, noise) for noise in NOISES),
            overall(results),
        ),
        measured={"classifier_accuracy": float(np.mean(accuracies))}
        | {
            f"auroc_{detector}_{view}".replace(" ", "_"): float(
                np.mean([summary(results, (detector, view, noise)).mean for noise in NOISES])
            )
            for detector in DETECTORS
            for view in VIEWS
        },
        tables=tuple(results_table(results, quality) for quality in QUALITIES),
        figures=draw(results),
        details={
            "repeats": len(results),
            "classifier_accuracy": accuracies,
            **{
                quality: {
                    "/".join(map(str, place)): [result[place][quality] for result in results]
                    for place in results[0]
                }
                for quality in QUALITIES
            },
        },
    )


def train_classifier(run: StudyRun, size: Size, seed: int) -> tuple[Detector, float]:
    """The network whose neurons are watched, and its accuracy on the test images."""
    train, test = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    classifier = run.fit(
        Config(
            model=CLASSIFIER,
            scale=Scale(kind="unit"),
            train=Train(epochs=size.epochs[0], validation_fraction=0.0, seed=seed),
        ),
        train.x[: size.learned],
        labels=train.y[: size.learned],
        schema=train.schema,
    )
    named = classifier.classify(test.x).argmax(axis=1)
    return classifier, float(np.mean(named == test.y))


def compare(run: StudyRun, size: Size, classifier: Detector, seed: int) -> Result:
    """Every detector on every view at every noise level, once."""
    random = batches.host_random(seed, "noise")
    seen = datasets.load("mnist", "train").x[LEARNED : LEARNED + size.seen]
    tested = datasets.load("mnist", "test").x
    tested = tested[random.permutation(len(tested))[: size.tested]]
    half, seen_half = len(tested) // 2, len(seen) // 2
    is_anomaly = np.arange(len(tested)) >= half
    noisy_tested = {noise: add_noise(tested[half:], noise, random) for noise in NOISES}
    noisy_seen = {noise: add_noise(seen[seen_half:], noise, random) for noise in NOISES}
    results: dict[Place, dict[str, float]] = {}

    def judge(place: Place, scores: np.ndarray) -> None:
        # No more than the share is above it, ties or not.
        limit = np.quantile(scores[:half], 1 - FALSE_ALARMS, method="higher")
        quality = evaluate(scores, is_anomaly, float(limit), bootstrap=0)
        results[place] = {
            "auroc": quality["auroc"]["value"],
            "found": quality["anomaly_positive"]["recall"],
        }

    for view in VIEWS:
        normal = look(classifier, seen, view)
        rows = {
            noise: np.concatenate(
                [look(classifier, tested[:half], view), look(classifier, noisy, view)]
            )
            for noise, noisy in noisy_tested.items()
        }
        autoencoder = train_autoencoder(run, size, normal, seed)
        forest = grow_forest(normal, seed)
        for noise in NOISES:
            judge(("autoencoder", view, noise), autoencoder.score(rows[noise]))
            flat = rows[noise].reshape(len(rows[noise]), -1)
            judge(("isolation forest", view, noise), -forest.score_samples(flat))
            anomalous = look(classifier, noisy_seen[noise], view)
            supervised = train_supervised(run, size, normal[:seen_half], anomalous, seed)
            judge(("supervised", view, noise), supervised.score(rows[noise]))
    return results


def add_noise(images: np.ndarray, deviation: float, random: np.random.Generator) -> np.ndarray:
    """Images uint8 [n, 28, 28, 1] with normal noise, in whole grey levels again."""
    noisy = images / 255 + deviation * random.standard_normal(images.shape, np.float32)
    return np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)


def look(classifier: Detector, images: np.ndarray, view: str) -> np.ndarray:
    """What a detector sees of images: the pixels, or the states of one layer or both."""
    if view == "pixels":
        return images
    layers = LAYERS if view == "both layers" else LAYERS[VIEWS.index(view) - 1 :][:1]
    return np.concatenate([classifier.states(images, layer) for layer in layers], axis=1)


def train_autoencoder(run: StudyRun, size: Size, rows: np.ndarray, seed: int) -> Detector:
    """Our detector, on normal rows."""
    width = int(np.prod(rows.shape[1:]))
    config = Config(
        model=Dense(hidden=(128, 32) if width == PIXELS else (width // 2, width // 4)),
        scale=Scale(kind="standard"),
        train=Train(epochs=size.epochs[1], validation_fraction=0.0, schedule="cosine", seed=seed),
    )
    return run.fit(config, rows)


def grow_forest(rows: np.ndarray, seed: int) -> Any:
    """scikit-learn's isolation forest of 100 trees, on normal rows."""
    from sklearn.ensemble import IsolationForest

    return IsolationForest(random_state=seed).fit(rows.reshape(len(rows), -1))


def train_supervised(
    run: StudyRun, size: Size, normal: np.ndarray, anomalous: np.ndarray, seed: int
) -> Detector:
    """A network that learns which rows are anomalous from their labels."""
    config = Config(
        model=Classifier(network=Dense(hidden=(64, 32)), classes=2),
        scale=Scale(kind="standard"),
        train=Train(epochs=size.epochs[2], validation_fraction=0.0, schedule="cosine", seed=seed),
    )
    rows = np.concatenate([normal, anomalous])
    labels = np.arange(len(rows)) >= len(normal)
    return run.fit(config, rows, labels=labels)


def draw(results: Sequence[Result]) -> tuple[tuple[str, str, Any], ...]:
    """The noise as it looks, and the results as heat maps."""
    from aejax.reporting.pictures import strips_figure

    random = batches.host_random(0, "noise")
    test = datasets.load("mnist", "test")
    digits = test.x[[int(np.flatnonzero(test.y == digit)[0]) for digit in range(10)]]
    strips = {"clean": digits / 255} | {
        f"noise {noise:g}": add_noise(digits, noise, random) / 255 for noise in NOISES
    }
    return (
        (
            "The anomalies",
            "Test digits with noise from invisible to plainly visible (standard deviation in "
            "pixels of [0, 1]).",
            strips_figure(strips),
        ),
        (
            "Which view of an image tells its noise best",
            f"Means over repeats ({len(results)}); the darker the better, the best of every "
            "column in bold. AUROC 0.5 is guessing. The supervised network learned from the very "
            "noise that it is tested on.",
            heat(results),
        ),
    )


RECIPE = Study(
    name="mnist_model_state",
    title="Anomalies in the state of a network's neurons (MNIST)",
    summary="Noisy digits are looked for in their pixels and in what a classifier's neurons "
    "make of them: four noise levels, four views, three detectors.",
    source="an article on detecting anomalies in the state of a trained network's neurons",
    time="about two minutes",
    published={},
    find=find,
)


def repeats(results: Sequence[Result]) -> str:
    """How many, and what brackets hold."""
    if len(results) == 1:
        return "1 repeat"
    return f"{len(results)} repeats, 95 % interval in brackets"


def summary(results: Sequence[Result], place: Place, quality: str = "auroc") -> Interval:
    """Mean and interval over repeats."""
    return mean_interval([result[place][quality] for result in results], within=(0, 1))


def winners(results: Sequence[Result], detector: str, noise: float, quality: str) -> list[str]:
    """The best view and those that can't be distinguished from it, best first.

    A view is worse if the 95 % interval of the paired differences excludes 0; where there
    is one repeat, if its number is lower.
    """

    def values(view: str) -> np.ndarray:
        return np.array([result[detector, view, noise][quality] for result in results])

    order = sorted(VIEWS, key=lambda view: -values(view).mean())
    best = values(order[0])
    ties = [order[0]]
    for view in order[1:]:
        difference = mean_interval(best - values(view))
        worse = difference.mean > 0 if len(results) == 1 else difference.excludes_zero
        if not worse:
            ties.append(view)
    return ties


def conclusion(results: Sequence[Result], noise: float) -> str:
    """Which view wins at a noise level, in a sentence."""
    parts = []
    for detector in DETECTORS:
        views = winners(results, detector, noise, "auroc")
        best = summary(results, (detector, views[0], noise))
        share = summary(results, (detector, views[0], noise), "found")
        shown = f"{views[0]} (AUROC {best.text()}, {share.mean:.1%} found at 1 % false alarms)"
        if len(views) > 1:
            shown += f", not distinguishable from {' and '.join(views[1:])}"
        parts.append(f"{detector}: {shown}")
    return f"Noise {noise:g}, the best view of each detector. " + "; ".join(parts) + "."


def overall(results: Sequence[Result]) -> str:
    """How often pixels win, in a sentence."""
    sole: dict[str, int] = {}
    for detector in DETECTORS:
        for noise in NOISES:
            views = winners(results, detector, noise, "auroc")
            name = views[0] if len(views) == 1 else "no single view"
            sole[name] = sole.get(name, 0) + 1
    parts = [f"{name} in {count}" for name, count in sorted(sole.items(), key=lambda p: -p[1])]
    cases = len(DETECTORS) * len(NOISES)
    return f"Of {cases} cases (detector and noise level), the best view is: {', '.join(parts)}."


def results_table(results: Sequence[Result], quality: str) -> Table:
    """A line for every detector and noise level, a column for every view."""

    def line(detector: str, noise: float) -> tuple[str, ...]:
        cells = (summary(results, (detector, view, noise), quality).text() for view in VIEWS)
        best = " = ".join(winners(results, detector, noise, quality))
        return (f"{detector}, noise {noise:g}", *cells, best)

    return Table(
        title=f"{QUALITIES[quality]}, mean of {repeats(results)}; the best views are those that "
        "differ from the very best by no more than chance",
        head=("Detector", *(view.capitalize() for view in VIEWS), "Best"),
        lines=[line(detector, noise) for detector in DETECTORS for noise in NOISES],
    )


def heat(results: Sequence[Result]) -> Figure:
    """Both qualities as heat maps, a panel for every detector."""
    from aejax.reporting.pictures import Heat, heat_figure

    def panels(quality: str) -> dict[str, np.ndarray]:
        def line(detector: str, view: str) -> list[float]:
            places = ((detector, view, noise) for noise in NOISES)
            return [summary(results, place, quality).mean for place in places]

        return {
            detector: np.array([line(detector, view) for view in VIEWS]) for detector in DETECTORS
        }

    return heat_figure(
        [
            Heat(name="AUROC", panels=panels("auroc"), low=0.5, high=1.0),
            Heat(name="found at 1 % false alarms", panels=panels("found"), low=0.0, high=1.0),
        ],
        rows=VIEWS,
        columns=[f"{noise:g}" for noise in NOISES],
    )
