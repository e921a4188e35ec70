"""The published digit experiments in Keras, for a distribution to compare the recipes with.

    python -m benchmarks.published --seeds 8

The article behind `mnist_one_plain`, `mnist_one_denoise` and `mnist_one_superres` reports a
single run of each. This runs the same networks in Keras from several seeds: 50 rounds of 10
steps of batch 675 on MNIST's 6,742 ones, mean absolute error, Adam, and the share of normal
and of anomalous test digits judged right with a threshold at mean + 3 standard deviations of
the normal test digits' mean squared errors. Every run is appended to the results file as
soon as it ends, so the same command continues. About two minutes a run on two CPU cores.

    python -m benchmarks.published --compare runs

prints, without running anything, what `aejax run mnist_one_... --seeds 8 --out runs/mnist_one_...`
measured beside it: medians over the seeds, and the article's finding (noise helps, super-resolution
doesn't) as differences of means with 95 % bootstrap intervals over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "published_keras.jsonl"
VARIANTS = ("plain", "denoise", "superres")
ROUNDS, STEPS, BATCH = 50, 10, 675
TARGET_NOISE = 0.1
DIGIT = 1
# Normal and anomalous test digits judged right, of the article's single runs.
PUBLISHED = {"plain": (0.9868, 0.9713), "denoise": (0.9868, 0.9759), "superres": (0.9859, 0.8485)}


def model(variant: str) -> Any:
    """The article's network, compiled as published."""
    import keras

    def convolve(x: Any) -> Any:
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
        return keras.layers.BatchNormalization()(x)

    inputs = x = keras.Input((28, 28, 1))
    if variant == "superres":
        x = keras.layers.MaxPooling2D(4)(x)
        for _ in range(2):
            x = convolve(convolve(keras.layers.UpSampling2D(2)(x)))
    else:
        for _ in range(2):
            x = keras.layers.MaxPooling2D(2)(convolve(x))
        for _ in range(2):
            x = keras.layers.UpSampling2D(2)(convolve(x))
        x = convolve(x)
    outputs = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    network = keras.Model(inputs, outputs)
    network.compile(optimizer="adam", loss="mae")
    return network


def rates(normal: np.ndarray, anomalous: np.ndarray) -> tuple[float, float]:
    """Shares of normal and of anomalous rows judged right."""
    threshold = normal.mean() + 3 * normal.std()
    return float(np.mean(normal <= threshold)), float(np.mean(anomalous > threshold))


def one_run(variant: str, seed: int) -> dict[str, Any]:
    """Train and judge one network."""
    import keras

    from aejax.data import datasets

    keras.utils.set_random_seed(seed)
    train, test = datasets.load("mnist", "train"), datasets.load("mnist", "test")
    x_train = train.x[train.y == DIGIT].reshape(-1, 28, 28, 1).astype(np.float32) / 255
    x_test = test.x.reshape(-1, 28, 28, 1).astype(np.float32) / 255
    is_anomaly = test.y != DIGIT
    random = np.random.default_rng(seed)
    target = x_train
    if variant == "denoise":
        target = x_train + TARGET_NOISE * random.normal(size=x_train.shape).astype(np.float32)
    network = model(variant)
    clock = time.perf_counter()
    network.fit(x_train, target, batch_size=BATCH, epochs=ROUNDS, verbose=0)
    seconds = time.perf_counter() - clock
    found = network.predict(x_test, batch_size=1000, verbose=0)
    error = np.mean(np.square(found - x_test), axis=(1, 2, 3))
    normal, anomalous = rates(error[~is_anomaly], error[is_anomaly])
    return {
        "variant": variant,
        "seed": seed,
        "normal": normal,
        "anomalous": anomalous,
        "train_seconds": round(seconds, 1),
        "keras": keras.__version__,
    }


Rates = dict[str, dict[str, np.ndarray]]
BOOTSTRAPS = 10_000


def measured_by_keras(path: Path) -> Rates:
    """Rates of every run in the results file: variant -> "normal", "anomalous" -> [runs]."""
    runs = [json.loads(line) for line in path.read_text().splitlines()]
    return {
        variant: {
            kind: np.array([run[kind] for run in runs if run["variant"] == variant])
            for kind in ("normal", "anomalous")
        }
        for variant in VARIANTS
    }


def measured_by_aejax(folder: Path) -> Rates:
    """Rates of every seed under a folder of recipe runs, in the same form."""
    found: Rates = {}
    for variant in VARIANTS:
        files = sorted((folder / f"mnist_one_{variant}").glob("seed-*/metrics.json"))
        runs = [json.loads(file.read_text())["measured"] for file in files]
        found[variant] = {
            kind: np.array([run[f"{kind}_judged_right"] for run in runs])
            for kind in ("normal", "anomalous")
        }
    return found


def difference(
    a: np.ndarray, b: np.ndarray, middle: Callable[[np.ndarray], Any] = np.mean
) -> tuple[float, float, float]:
    """Mean (or median) of `a` minus that of `b`, with a 95 % bootstrap interval over runs."""
    random = np.random.default_rng(0)
    drawn = [
        middle(random.choice(a, len(a))) - middle(random.choice(b, len(b)))
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(middle(a) - middle(b)), float(low), float(high)


def nearest(rates: dict[str, np.ndarray], published: tuple[float, float]) -> str:
    """The run that misses the published pair by least, in words."""
    short = np.stack(
        [
            # Published to a hundredth of a percent.
            np.where(rates[kind] < goal - 5e-5, goal - rates[kind], 0)
            for kind, goal in zip(("normal", "anomalous"), published, strict=True)
        ]
    )
    best = int(np.argmin(short.max(axis=0)))
    pair = f"{100 * rates['normal'][best]:.2f} / {100 * rates['anomalous'][best]:.2f} %"
    goal = f"the published {100 * published[0]:.2f} / {100 * published[1]:.2f} %"
    if not short[:, best].any():
        return f"best run: {pair} reaches {goal}"
    missed = " and ".join(f"{100 * gap:.2f}" for gap in short[:, best])
    return f"best run: {pair} misses {goal} by {missed} points"


def comparison(ours: Rates, keras: Rates) -> str:
    """Both distributions, and the article's finding in each, as Markdown."""
    lines = [
        "| | seeds | normal right, median | anomalous right, median (range) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for variant in VARIANTS:
        for name, rates in (("aejax", ours), ("Keras", keras)):
            normal, anomalous = rates[variant]["normal"], rates[variant]["anomalous"]
            if not len(normal):
                lines.append(f"| {variant}, {name} | 0 | | |")
                continue
            lines.append(
                f"| {variant}, {name} | {len(normal)} | {np.median(normal):.4f} | "
                f"{np.median(anomalous):.4f} ({anomalous.min():.4f} to {anomalous.max():.4f}) |"
            )
    lines.append("")
    for variant in VARIANTS:
        a, b = ours[variant]["anomalous"], keras[variant]["anomalous"]
        if len(a) and len(b):
            mean, low, high = difference(a, b, np.median)
            lines.append(
                f"- {variant}, aejax minus Keras, medians of anomalous judged right: "
                f"{100 * mean:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
            )
            lines.append(f"- {variant}, aejax, {nearest(ours[variant], PUBLISHED[variant])}")
    for variant in ("denoise", "superres"):
        for name, rates in (("aejax", ours), ("Keras", keras)):
            a, b = rates[variant]["anomalous"], rates["plain"]["anomalous"]
            if not len(a) or not len(b):
                continue
            mean, low, high = difference(a, b)
            lines.append(
                f"- {variant} minus plain, anomalous judged right, {name}: {100 * mean:+.2f} "
                f"points ({100 * low:+.2f} to {100 * high:+.2f})"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what the results file doesn't hold yet, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--compare", type=Path, help="folder of recipe runs, by recipe")
    options = parser.parse_args()
    if options.compare is not None:
        print(comparison(measured_by_aejax(options.compare), measured_by_keras(options.json)))
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    done = []
    if options.json.is_file():
        done = [json.loads(line) for line in options.json.read_text().splitlines()]
    for seed in range(options.seeds):
        for variant in options.variants:
            if any((run["variant"], run["seed"]) == (variant, seed) for run in done):
                continue
            result = one_run(variant, seed)
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
