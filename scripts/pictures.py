"""Draw the pictures of the guides: docs/images/NAME.png, one each.

    python scripts/pictures.py [NAME ...]

Each trains what it shows on made-up rows or on scikit-learn's digits, but for "accelerators",
"effort" and "scale", which draw a file of benchmarks/results each. The report's picture is a
screenshot of the demo's page.
"""

from __future__ import annotations

import functools
import json
import re
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from sklearn.datasets import load_digits

import aejax
from aejax.detection.threshold import fit_threshold
from aejax.reporting.pictures import strips_figure
from aejax.reporting.plots import score_histogram
from aejax.reporting.style import (
    ANOMALY,
    MUTED,
    NORMAL,
    house_style,
    legend_above,
    new_figure,
    plain_log_ticks,
    to_png,
)

ROOT = Path(__file__).parents[1]
SAMPLES = runpy.run_path(str(ROOT / "scripts" / "sample_data.py"))
PLAIN = aejax.Config(
    model=aejax.Dense(hidden=(16, 3)),
    train=aejax.Train(steps=600, learning_rate=3e-3),
    scale=aejax.Scale(),
    calibration="held-out",
)
WIDE = 6.4


def axes_of(height: float = 2.6) -> tuple[Figure, Axes]:
    """A figure of one plot."""
    figure = new_figure(WIDE, height)
    return figure, figure.subplots()


@functools.cache
def day() -> tuple[aejax.Detector, pd.DataFrame, np.ndarray]:
    """A detector of pumps, the readings of a day, and which of them are broken."""
    with tempfile.TemporaryDirectory() as folder:
        SAMPLES["write"](Path(folder))
        train = pd.read_csv(f"{folder}/train.csv").drop(columns="pump_id")
        today = pd.read_parquet(f"{folder}/today.parquet").drop(columns="pump_id")
        broken = pd.read_csv(f"{folder}/labels.csv")["broken"].to_numpy(bool)
    return aejax.fit(PLAIN, train), today, broken


def tables() -> Figure:
    detector, today, broken = day()
    return score_histogram(
        detector.score(today).astype(float), broken, detector.threshold.value
    ).figure


def reasons() -> Figure:
    detector, today, broken = day()
    row = today[broken][:1]
    named = detector.explain(row, top=4)[0]
    figure, axes = axes_of(1.9)
    errors = [reason.error for reason in named][::-1]
    axes.barh(range(len(named)), errors, color=[NORMAL] * (len(named) - 1) + [ANOMALY], height=0.6)
    for at, reason in enumerate(named[::-1]):
        text = f" {reason.found:.4g}, expected {reason.expected:.4g}"
        axes.text(errors[at], at, text, va="center", color=MUTED)
    axes.set_yticks(range(len(named)), [str(reason.feature) for reason in named][::-1])
    axes.set_xlim(0, 1.45 * max(errors))
    axes.set_xlabel("error of the feature, in scaled units")
    axes.grid(False)
    return figure


def mixed() -> Figure:
    page = (ROOT / "docs" / "mixed.md").read_text(encoding="utf-8")
    made: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        block = (
            page.split("```python\n")[1].split("```")[0].replace('to_csv("', f'to_csv("{folder}/')
        )
        exec(block, made)
    sales, today = made["sales"], made["today"]
    assert isinstance(sales, pd.DataFrame)
    assert isinstance(today, pd.DataFrame)
    config = aejax.Config(
        model=aejax.Dense(hidden=(64, 8)),
        columns=aejax.Columns(kinds="mixed"),
        train=aejax.Train(steps=800, hide=0.3),
    )
    named = aejax.fit(config, sales[:1800]).explain(today[:1], top=5)[0]
    figure, axes = axes_of(2.2)
    errors = [reason.error for reason in named][::-1]
    axes.barh(range(len(named)), errors, color=[NORMAL] * (len(named) - 1) + [ANOMALY], height=0.6)
    for at, reason in enumerate(named[::-1]):
        text = f" {reason.found}, expected {reason.expected}"
        axes.text(errors[at], at, text, va="center", color=MUTED)
    axes.set_yticks(range(len(named)), [str(reason.feature) for reason in named][::-1])
    axes.set_xlim(0, 1.8 * max(errors))
    axes.set_xlabel("error of the column")
    axes.grid(False)
    return figure


def images() -> Figure:
    digits = load_digits()
    rows = (digits.images[..., None] / 16).astype(np.float32)
    config = aejax.Config(
        model=aejax.Dense(hidden=(128, 24)),
        scale=aejax.Scale(kind="none"),
        train=aejax.Train(steps=1500, learning_rate=2e-3, noise=0.1),
        calibration="held-out",
    )
    detector = aejax.fit(config, rows[digits.target != 0][:1200])
    shown = np.concatenate([rows[digits.target != 0][1300:1305], rows[digits.target == 0][:5]])
    scaled, rebuilt = detector.reconstruct(shown)
    errors = detector.feature_errors(scaled, rebuilt).reshape(shown.shape)
    strips = {
        "image": shown,
        "rebuilt": rebuilt.reshape(shown.shape),
        "error": errors / np.quantile(errors, 0.99),
    }
    return strips_figure({name: strip[..., 0] for name, strip in strips.items()}, width=WIDE)


def own() -> Figure:
    class Attention(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):  # type: ignore[no-untyped-def]
            tokens = nn.Dense(16)(x[..., None]) + self.param(
                "place", nn.initializers.normal(0.1), (x.shape[-1], 16)
            )
            tokens += nn.MultiHeadDotProductAttention(2)(tokens)
            return nn.Dense(1)(nn.gelu(nn.Dense(8)(tokens)))[..., 0]

    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 2)) @ random.normal(size=(2, 6))
    train = aejax.Train(epochs=30, learning_rate=3e-3, noise=0.3)
    figure, axes = axes_of()
    for name, model, colour in (
        ("Dense(hidden=(8, 2))", aejax.Dense(hidden=(8, 2)), NORMAL),
        ("attention, a Linen module", Attention(), ANOMALY),
    ):
        config = aejax.Config(model=model, train=train, calibration="held-out")
        losses = [row["validation_loss"] for row in aejax.fit(config, x).history]
        axes.plot(range(1, 1 + len(losses)), losses, color=colour, label=name)
    axes.set(yscale="log", xlabel="epoch", ylabel="validation loss")
    plain_log_ticks(axes, "y")
    legend_above(axes)
    return figure


def thresholds() -> Figure:
    detector, _, _ = day()
    rates, drawn = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05), 300
    scores = detector.score(SAMPLES["readings"](200_000, seed=9).drop(columns="pump_id"))
    held = detector.score(SAMPLES["readings"](60_000, seed=8).drop(columns="pump_id"))
    figure, axes = axes_of(3.2)
    axes.plot(rates, rates, color=MUTED, linewidth=1, label="as promised")
    for name, rule, colour in (
        ("Quantile", lambda rate: aejax.Quantile(q=1 - rate), ANOMALY),
        ("FalseAlarms", lambda rate: aejax.FalseAlarms(rate=rate), NORMAL),
    ):
        found = [
            np.mean([
                (scores > fit_threshold(rule(rate), own).value).mean()
                for own in held.reshape(-1, drawn)
            ])
            for rate in rates
        ]  # fmt: skip
        axes.plot(rates, found, "o-", color=colour, label=name, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel=f"false alarms promised, from {drawn} rows")
    axes.set_ylabel("among new rows, mean")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(rates))
        axis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
        axis.set_minor_formatter("")
    legend_above(axes)
    return figure


def groups() -> Figure:
    random = np.random.default_rng(0)
    stores = np.repeat([f"store {number}" for number in range(1, 7)], 300)
    noise = np.repeat([0.1, 0.15, 0.2, 0.3, 0.4, 0.6], 300)[:, None]
    x = random.normal(size=(1800, 2)) @ random.normal(size=(2, 5))
    x = x * np.linspace(1, 2, 5) + noise * random.normal(size=x.shape)
    config = aejax.Config(model=PLAIN.model, train=PLAIN.train, scale=aejax.Scale(kind="none"))
    detector = aejax.fit(config, x, groups=stores)
    scores = detector.score(x, groups=stores)
    figure, axes = axes_of(2.8)
    for at, store in enumerate(dict.fromkeys(stores)):
        own_scores = scores[stores == store]
        line = detector.member(store).threshold.value
        beyond = own_scores > line
        places = at + random.uniform(-0.3, 0.3, len(own_scores))
        for which, colour in ((~beyond, NORMAL), (beyond, ANOMALY)):
            axes.scatter(
                places[which], own_scores[which], s=5, color=colour, alpha=0.5, linewidth=0
            )
        label = "its threshold" if not at else None
        axes.plot([at - 0.4, at + 0.4], [line, line], color="black", linewidth=1.4, label=label)
    axes.set_xticks(range(6), list(dict.fromkeys(stores)))
    axes.set(yscale="log", ylabel="score of a row")
    plain_log_ticks(axes, "y")
    legend_above(axes)
    return figure


def nights() -> Figure:
    detector, _, _ = day()
    with tempfile.TemporaryDirectory() as folder:
        for night in range(7):
            rows = SAMPLES["readings"](4000, seed=20 + night).drop(columns="pump_id")
            # A sensor begins to creep on Friday.
            rows["temperature"] += max(0, night - 3) * 1.2
            Path(folder, "in").mkdir(exist_ok=True)
            rows.to_parquet(f"{folder}/in/night-{night}.parquet", index=False)
            summary = aejax.score_files(
                detector, f"{folder}/in", f"{folder}/scores", append=night > 0
            )
        runs = summary["runs"][::-1]
    figure, axes = axes_of(2.4)
    shares = [100 * run["flagged_rate"] for run in runs]
    drifted = [bool(run.get("alarms")) or (run["population_stability"] or 0) > 0.25 for run in runs]
    axes.bar(range(7), shares, color=[ANOMALY if bad else NORMAL for bad in drifted], width=0.6)
    axes.set_xticks(range(7), ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    axes.set_ylabel("rows flagged, %")
    for at, run in enumerate(runs):
        axes.text(
            at, shares[at], f"drift {run['population_stability']:.2g}", ha="center", va="bottom"
        )
    axes.set_ylim(0, 1.15 * max(shares))
    return figure


def tuning() -> Figure:
    random = np.random.default_rng(0)
    x = (random.normal(size=(600, 3)) @ random.normal(size=(3, 8))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder, "space.toml")
        space.write_text(
            "train.epochs = 20\n"
            "train.learning_rate = { low = 1e-4, high = 2e-2, log = true }\n"
            "model.hidden = { choices = [[8, 2], [16, 4]] }\n"
        )
        found = aejax.tune(aejax.read_space(space), x, configurations=16, folds=4)
    figure, axes = axes_of(2.8)
    for width, colour in (((8, 2), NORMAL), ((16, 4), ANOMALY)):
        trials = [t for t in found.trials if tuple(t.drawn.settings["model.hidden"]) == width]
        rates = [trial.drawn.settings["train.learning_rate"] for trial in trials]
        means = np.array([trial.mean for trial in trials])
        low, high = np.array([trial.interval for trial in trials]).T
        spread = np.clip([means - low, high - means], 0, None)
        label = f"hidden = {list(width)}"
        axes.errorbar(rates, means, spread, fmt="o", color=colour, label=label, markersize=4)
    axes.set(xscale="log", xlabel="learning rate", ylabel="error of held-out rows")
    plain_log_ticks(axes, "x")
    legend_above(axes)
    return figure


def export() -> Figure:
    detector, today, _ = day()
    with tempfile.TemporaryDirectory() as folder:
        aejax.export(detector, f"{folder}/out")
        scorer = runpy.run_path(f"{folder}/out/scorer.py")["Scorer"](f"{folder}/out")
        there = scorer(today.to_numpy(np.float32))
    here = detector.score(today)
    figure, axes = axes_of(3.0)
    axes.plot(here, there, "o", color=NORMAL, markersize=4, alpha=0.6)
    axes.axvline(detector.threshold.value, color=ANOMALY, linewidth=1)
    most = np.max(np.abs(there - here)) / detector.threshold.value
    axes.set_title(f"largest difference: {most:.0e} of the threshold")
    axes.set(xscale="log", yscale="log", xlabel="score of the detector")
    axes.set_ylabel("score of scorer.py, without aejax")
    for name in ("x", "y"):
        plain_log_ticks(axes, name)
    return figure


def results(name: str) -> dict[str, Any]:
    """What a benchmark wrote."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def effort() -> Figure:
    detectors = results("detection_default")["summary"]["normals"]
    labels = {
        "pyod-knn": "KNN",
        "pyod-iforest": "IForest",
        "pyod-autoencoder": "PyOD's AutoEncoder",
    }
    figure, axes = axes_of(2.8)
    for name in ("quick", "standard", "best", *labels):
        of = detectors[name]
        seconds, precision = of["seconds"]["later"], 100 * of["average_precision"]["mean"]
        colour = MUTED if name in labels else NORMAL
        axes.plot(seconds, precision, "o", color=colour, markersize=7)
        axes.annotate(
            labels.get(name, name), (seconds, precision), (7, -3), textcoords="offset points"
        )
    axes.set(xscale="log", xlabel="seconds of fit and score, 12 tables, once compiled")
    axes.set_ylabel("mean average precision, %")
    axes.margins(0.18)
    plain_log_ticks(axes, "x")
    return figure


def scale() -> Figure:
    found = results("stream")
    names = {"score parquet": "aejax, Parquet", "score csv": "aejax, CSV", "pyod": "PyOD in blocks"}
    rates = {name: found["rows_per_second"][name]["median"] / 1000 for name in names}
    figure, axes = axes_of(2.2)
    for at, (name, rate) in enumerate(reversed(rates.items())):
        axes.barh(at, rate, color=MUTED if name == "pyod" else NORMAL, height=0.6)
        axes.text(rate, at, f" {rate:,.0f}", va="center", color=MUTED)
    axes.set_yticks(range(len(names)), list(names.values())[::-1])
    axes.set_xlim(0, 1.15 * max(rates.values()))
    axes.set_xlabel("thousand rows of 140 values a second, from file to file, two cores")
    axes.grid(False)
    return figure


def accelerators() -> Figure:
    dense = results("device_h100")["sections"]["scoring"][0]
    rates = {
        name.removeprefix("aejax "): rate["median"]
        for name, rate in dense["rates"].items()
        if name.startswith(("aejax float32", "aejax tensorfloat32"))
    }
    figure, axes = axes_of(2.6)
    names = list(rates)[::-1]
    axes.barh(range(len(names)), [rates[name] / 1e6 for name in names], color=NORMAL, height=0.6)
    for at, name in enumerate(names):
        axes.text(rates[name] / 1e6, at, f" {rates[name] / 1e6:.3g}", va="center", color=MUTED)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 1.1 * max(rates.values()) / 1e6)
    axes.set_xlabel("million rows of 784-64-784 a second on an H100")
    axes.grid(False)
    return figure


def imports() -> Figure:
    """How many modules of each room import from each other room, in the order of the stages."""
    rooms = [
        "config", "rules", "data", "models", "core", "row_scores", "training", "detection",
        "exporting", "estimator", "scoring", "reporting", "recipes", "commands", "cli",
    ]  # fmt: skip
    counts = np.zeros((len(rooms), len(rooms)), int)
    lines = dict.fromkeys(rooms, 0)
    for path in sorted((ROOT / "aejax").rglob("*.py")):
        room = path.relative_to(ROOT / "aejax").parts[0].removesuffix(".py")
        if room not in lines:
            continue
        text = path.read_text(encoding="utf-8")
        lines[room] += text.count("\n")
        named = set(re.findall(r"^\s*(?:from|import) aejax\.(\w+)", text, re.MULTILINE))
        for other in named & set(rooms) - {room}:
            counts[rooms.index(room), rooms.index(other)] += 1
    assert not np.triu(counts).any(), "a stage imports one behind it"
    figure, axes = axes_of(4.6)
    shades = np.ma.masked_equal(counts, 0)
    axes.imshow(shades, cmap="Blues", vmin=-5, vmax=counts.max() * 1.6, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, count, ha="center", va="center", fontsize=7)
    for at in range(len(rooms)):
        axes.text(at, at, "\N{BLACK SQUARE}", ha="center", va="center", color=ANOMALY)
    axes.set_xticks(range(len(rooms)), rooms, rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rooms)), [f"{room}  {lines[room]:,}" for room in rooms])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_xlabel(
        "modules of the room at the left (and its lines) that import from the one above"
    )
    return figure


DRAWN: dict[str, Callable[[], Figure]] = {
    function.__name__: function
    for function in (
        tables, mixed, images, own, thresholds, reasons, groups, nights, tuning, export,
        accelerators, effort, scale, imports,
    )
}  # fmt: skip


def main() -> None:
    for name in sys.argv[1:] or DRAWN:
        with house_style():
            figure = DRAWN[name]()
        (ROOT / "docs" / "images" / f"{name}.png").write_bytes(to_png(figure))
        print(name)


if __name__ == "__main__":
    main()
