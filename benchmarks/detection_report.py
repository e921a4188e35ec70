"""From runs of detectors to means with intervals, tables in Markdown, and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detectors import DEFAULT, ENTRIES, NEIGHBOURS
from benchmarks.report import environment_lines, table

METRICS = ("auroc", "average_precision")
REPLICAS = 2000
_ABSENT = "-"
_COLOURS = {"aejax": "#b5485d", "control": "#c9a227", "peer": "#5b6b86"}
_TITLES = {
    "normals": "Trained on half of the normal rows, tested on the others and all anomalies",
    "first-half": "Trained on the first half of the normal rows in the file's order",
    "all": "Trained and tested on all rows, without labels",
}


def summarise(
    runs: Sequence[dict[str, Any]], sets: Sequence[str], protocol: str
) -> dict[str, dict[str, Any]]:
    """What each detector reached, by its name.

    Returns:
        For each metric "sets" (mean over seeds by set) and, where all sets are done, "mean"
        over sets with "low" and "high" (95 % bootstrap interval over seeds; sets are fixed),
        and "above_neighbours", the same of the difference from k nearest neighbours, seed by
        seed; "seeds"; "seconds": of the first runs and of later runs, summed over sets;
        "failed": reasons by set.
    """
    found: dict[str, dict[str, Any]] = {}
    values = {
        name: _values([run for run in runs if run["protocol"] == protocol], name)
        for name in ENTRIES
    }
    for name in ENTRIES:
        own = [r for r in runs if r["protocol"] == protocol and r["detector"] == name]
        if not own:
            continue
        one: dict[str, Any] = {
            "seeds": sorted({len(seeds) for seeds in values[name].values()}),
            "seconds": {
                "first": _total(own, sets, first=True),
                "later": _total(own, sets, first=False),
            },
            "failed": {r["set"]: r["reason"] for r in own if r["status"] != "ready"},
        }
        for metric in METRICS:
            by_set = {
                of: {seed: run[metric] for seed, run in values[name][of].items()}
                for of in sets
                if of in values[name]
            }
            one[metric] = {"sets": {of: float(np.mean([*v.values()])) for of, v in by_set.items()}}
            if len(by_set) == len(sets):
                one[metric] |= interval([[*by_set[of].values()] for of in sets])
            paired = [
                [
                    value - values[NEIGHBOURS][of][seed][metric]
                    for seed, value in by_set.get(of, {}).items()
                    if seed in values[NEIGHBOURS].get(of, {})
                ]
                for of in sets
            ]
            if name != NEIGHBOURS and all(paired):
                one[metric]["above_neighbours"] = interval(paired)
        found[name] = one
    return found


def _values(runs: Sequence[dict[str, Any]], name: str) -> dict[str, dict[int, dict[str, Any]]]:
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for run in runs:
        if run["detector"] == name and run["status"] == "ready":
            found.setdefault(run["set"], {})[run["seed"]] = run
    return found


def interval(values: Sequence[Sequence[float]]) -> dict[str, float | None]:
    """Mean over sets of the means over seeds, with a 95 % bootstrap interval over seeds.

    Args:
        values: one sequence a set, with a value a seed. Seeds are drawn again set by set; of
            a single seed nothing can be drawn, and the interval is None.
    """
    mean = float(np.mean([np.mean(seeds) for seeds in values]))
    if min(map(len, values)) < 2:
        return {"mean": mean, "low": None, "high": None}
    random = np.random.default_rng(0)
    replicas = np.zeros(REPLICAS)
    for seeds in values:
        drawn = random.integers(len(seeds), size=(REPLICAS, len(seeds)))
        replicas += np.asarray(seeds)[drawn].mean(axis=1) / len(values)
    low, high = np.quantile(replicas, (0.025, 0.975))
    return {"mean": mean, "low": float(low), "high": float(high)}


def _total(runs: Sequence[dict[str, Any]], sets: Sequence[str], *, first: bool) -> float | None:
    """Seconds of fitting and scoring one seed of all sets, or None where a set has none."""
    total = 0.0
    for of in sets:
        seconds = [
            run["seconds"]
            for run in runs
            if run["set"] == of and run["status"] == "ready" and run["first"] == first
        ]
        if not seconds:
            return None
        total += statistics.median(seconds)
    return total


def as_table(results: dict[str, Any]) -> str:
    """The results in Markdown."""
    limits = results["limits"]
    blocks = [
        "# Detection on labelled tables",
        environment_lines(results),
        f"{len(results['sets'])} sets; at most {limits['most_train']:,} training and "
        f"{limits['most_test']:,} test rows, drawn by the seed, the same for all detectors; "
        "standardised by the training rows and clipped at 20"
        + ("; repeated rows dropped" if limits["distinct"] else "")
        + ("; QUICK: no figures to keep" if limits["quick"] else "")
        + ".",
    ]
    for protocol, summary in results["summary"].items():
        blocks += _protocol_blocks(results, protocol, summary)
    blocks.append(
        "\n".join(f"- {name}: missing ({why})" for name, why in results["missing"].items())
    )
    return "\n\n".join(filter(None, blocks))


def _protocol_blocks(
    results: dict[str, Any], protocol: str, summary: dict[str, dict[str, Any]]
) -> list[str]:
    ordered = ranked(summary)
    head = [
        "detector", "AUROC", "95 %", "above kNN", "95 %", "average precision", "95 %", "seeds",
        "first s", "later s",
    ]  # fmt: skip
    rows = []
    for name, one in ordered.items():
        difference = one["auroc"].get("above_neighbours", {})
        rows.append(
            [
                f"**{name}**" if name == DEFAULT else name,
                _percent(one["auroc"].get("mean")),
                _range(one["auroc"]),
                _percent(difference.get("mean"), sign=True),
                _range(difference, sign=True),
                _percent(one["average_precision"].get("mean")),
                _range(one["average_precision"]),
                " to ".join(map(str, sorted({min(one["seeds"]), max(one["seeds"])})))
                if one["seeds"]
                else "0",
                _seconds(one["seconds"]["first"]),
                _seconds(one["seconds"]["later"]),
            ]
        )
    blocks = [f"## {_TITLES[protocol]}", table(head, rows)]
    blocks.append(
        "\n".join(f"- {name}: {ENTRIES[name].title}" for name in ordered)
        + "".join(
            f"\n- {name} failed on {of}: {why}"
            for name, one in ordered.items()
            for of, why in one["failed"].items()
        )
    )
    sets = results["sets"]
    for metric, title in zip(METRICS, ("AUROC", "Average precision"), strict=True):
        by_set = [
            [name, *[_percent(one[metric]["sets"].get(of)) for of in sets]]
            for name, one in ordered.items()
        ]
        blocks += [f"### {title} by set, %", table(["detector", *sets], by_set)]
    blocks += ["### Rows", _rows_table(results, protocol)]
    return blocks


def _rows_table(results: dict[str, Any], protocol: str) -> str:
    """Sizes of every set, of its first seed."""
    first: dict[str, dict[str, Any]] = {}
    for run in sorted(results["runs"], key=lambda run: run["seed"]):
        if run["protocol"] == protocol:
            first.setdefault(run["set"], run)
    names = ("features", "train_rows", "test_rows", "anomalies", "repeated")
    head = ["set", "features", "training", "test", "anomalies", "normal test rows seen in training"]
    return table(head, [[of, *[f"{first[of][n]:,}" for n in names]] for of in first])


def ranked(summary: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Detectors by mean AUROC, best first; those without one last."""
    return dict(
        sorted(summary.items(), key=lambda item: -(item[1]["auroc"].get("mean") or float("-inf")))
    )


def _percent(value: float | None, *, sign: bool = False) -> str:
    return _ABSENT if value is None else f"{100 * value:{'+' if sign else ''}.1f}"


def _range(found: dict[str, Any], *, sign: bool = False) -> str:
    if found.get("low") is None:
        return _ABSENT
    return f"{_percent(found['low'], sign=sign)} to {_percent(found['high'], sign=sign)}"


def _seconds(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def plot(results: dict[str, Any], path: Path) -> None:
    """Every detector's mean with its interval, and its sets as small dots behind."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    panels = {way: ranked(found) for way, found in results["summary"].items() if found}
    if not panels:
        return
    heights = [0.9 + 0.3 * len(found) for found in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8, sum(heights)), height_ratios=heights, squeeze=False
    )
    for (way, found), axis in zip(panels.items(), axes[:, 0], strict=True):
        for at, (name, one) in enumerate(reversed(found.items())):
            auroc, colour = one["auroc"], _COLOURS[ENTRIES[name].group]
            values = [100 * value for value in auroc["sets"].values()]
            axis.scatter(values, [at] * len(values), s=9, color=colour, alpha=0.3, lw=0)
            if "mean" not in auroc:
                continue
            mean = 100 * auroc["mean"]
            if auroc["low"] is not None:
                axis.plot([100 * auroc["low"], 100 * auroc["high"]], [at, at], color=colour, lw=3)
            axis.scatter([mean], [at], s=46, color=colour, edgecolor="white", zorder=3)
            axis.annotate(
                f"{mean:.1f}", (1.01, at), xycoords=("axes fraction", "data"), va="center",
                fontsize=8, color=colour,
            )  # fmt: skip
        axis.set_yticks(range(len(found)), list(reversed(found)), fontsize=8)
        for label, name in zip(axis.get_yticklabels(), reversed(found), strict=True):
            label.set_color(_COLOURS[ENTRIES[name].group])
            label.set_fontweight("bold" if name == DEFAULT else "normal")
        axis.set_title(_TITLES[way], fontsize=9, loc="left")
        axis.set_xlabel(
            f"AUROC, %: mean of {len(results['sets'])} sets (large) and each set (small)",
            fontsize=8,
        )
        axis.grid(axis="x", color="0.9", lw=0.6)
        axis.tick_params(labelsize=8, left=False)
        axis.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)
