"""Results as JSON, as tables in Markdown, and as a plot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from benchmarks.figures import times_faster

_ABSENT = "-"


def keep(results: dict[str, Any], path: Path | None) -> None:
    """Write the results so far, if there is a place for them; never half a file."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    os.replace(aside, path)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def short(value: float | None) -> str:
    """A number with three digits and a unit prefix, or a dash."""
    if value is None:
        return _ABSENT
    for size, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def rate_cells(spread: dict[str, float] | None) -> list[str]:
    """The cells of a rate: its median, and its lowest and highest value."""
    return [_median(spread), _range(spread)]


def _range(spread: dict[str, float] | None) -> str:
    return f"{short(spread['lowest'])} to {short(spread['highest'])}" if spread else _ABSENT


def _median(spread: dict[str, float] | None) -> str:
    return short(spread["median"] if spread else None)


def _share(value: float | None) -> str:
    return _ABSENT if value is None else f"{100 * value:.0f} %"


def _seconds(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.2f}"


def _mebibytes(value: float | None) -> str:
    return f"{value / (1 << 20):.0f}" if value else _ABSENT


def _ratios(case: dict[str, Any], what: str) -> dict[str, str]:
    """How many times faster aejax was than each system of the same precision, repeat by repeat."""
    ours = {
        one["precision"]: one["seconds"][what]
        for one in reversed(case["systems"])
        if one["library"] == "aejax" and one["status"] == "ready" and one["dtype"] == "float32"
    }
    shown = {}
    for one in case["systems"]:
        base = ours.get(one["precision"])
        theirs = one["seconds"].get(what)
        if one["status"] != "ready" or not base or theirs is base:
            continue
        ratio = times_faster(base, theirs)
        if ratio:
            shown[one["system"]] = (
                f"{ratio['median']:.2f}x ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
            )
    return shown


def _choice(one: dict[str, Any]) -> str:
    choice = one.get("choice") or {}
    return ", ".join(f"{value}" for value in choice.values()) or _ABSENT


def _without_figures(case: dict[str, Any]) -> list[str]:
    return [
        f"- {one['system']}: {one['status']} ({one.get('reason', '')})"
        for one in case["systems"]
        if one["status"] != "ready"
    ]


def _limits(limits: dict[str, float]) -> str:
    parts = [
        f"{name.partition('_')[2]} products {short(value)}FLOP/s"
        for name, value in limits.items()
        if name.startswith("product")
    ]
    if "read" in limits:
        parts.append(f"reading {short(limits['read'])}B/s")
    return "Limits reached in this run: " + (", ".join(parts) or "not measured") + "."


def environment_lines(results: dict[str, Any]) -> str:
    """Where and when, in two lines."""
    machine = results["environment"]
    versions = [f"{k} {v}" for k, v in machine["versions"].items() if v != "not installed"]
    repeats = f", {results['repeats']} repeats" if "repeats" in results else ""
    return (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, "
        f"load before {machine['load_average_before']}, Python {machine['python']}, "
        f"commit {machine['commit']}{repeats}.\n{', '.join(versions)}."
    )


def _notes(case: dict[str, Any]) -> list[str]:
    lines = [
        f"- {one['system']}: {one['facts']['note']}"
        for one in case["systems"]
        if one.get("facts", {}).get("note")
    ]
    busy = [one["system"] for one in case["systems"] if one.get("idle_cpu", 0) > 0.05]
    if busy:
        lines.append(f"- used a core by more than 5 % while others ran: {', '.join(busy)}")
    return lines


def _blocks(results: dict[str, Any], blocks: list[str]) -> str:
    title = f"# {results['suite'].capitalize()} on {results.get('platform', 'this machine')}"
    return "\n\n".join([title, environment_lines(results), *blocks])


def scoring_table(results: dict[str, Any]) -> str:
    """The scoring suite's results in Markdown."""
    blocks = []
    for case in results["cases"]:
        ratios = _ratios(case, "end_to_end")
        rows = [
            [
                one["system"],
                _median(one["rows_per_second"]),
                _range(one["rows_per_second"]),
                _median(one["device_rows_per_second"]),
                ratios.get(one["system"], _ABSENT),
                _share(one.get("limit_share")),
                _seconds(one.get("compile_seconds")),
                _mebibytes(one.get("peak_bytes")),
                f"{one['largest_difference']:.1e}" if "largest_difference" in one else _ABSENT,
                _choice(one),
            ]
            for one in case["systems"]
            if one["status"] == "ready"
        ]
        head = [
            "system", "rows/s", "spread", "on device", "aejax faster by", "of limit",
            "compile s", "peak MiB", "score difference", "chosen",
        ]  # fmt: skip
        parts = [
            f"## {case['model']}: {case['title']}",
            f"{case['rows']:,} rows, {short(case['row_flops'])}FLOP a row. "
            + _limits(case["limits"]),
            table(head, rows),
            "\n".join(_without_figures(case) + _notes(case)),
        ]
        blocks.append("\n\n".join(filter(None, parts)))
    return _blocks(results, blocks)


def training_table(results: dict[str, Any]) -> str:
    """The training suite's results in Markdown."""
    blocks = []
    for case in results["cases"]:
        ratios = _ratios(case, "fit")
        rows = []
        for one in case["systems"]:
            if one["status"] != "ready":
                continue
            rows.append(
                [
                    one["system"],
                    _median(one["rows_per_second"]),
                    _range(one["rows_per_second"]),
                    _seconds(_middle(one["seconds"]["fit"])),
                    _seconds(one.get("first_seconds")),
                    ratios.get(one["system"], _ABSENT),
                    _share(one.get("limit_share")),
                    _mebibytes(one.get("peak_bytes")),
                    f"{one['loss']:.5f}",
                ]
            )
        head = [
            "system", "rows/s", "spread", "warm s", "first s", "aejax faster by", "of limit",
            "peak MiB", "final loss",
        ]  # fmt: skip
        parts = [
            f"## {case['model']}, batch {case['batch_size']}: {case['title']}",
            f"{case['rows']:,} rows, {case['epochs']} epochs, {short(case['row_flops'])}FLOP a row "
            "and epoch. " + _limits(case["limits"]),
            table(head, rows),
            "\n".join(_without_figures(case) + _notes(case)),
        ]
        blocks.append("\n\n".join(filter(None, parts)))
    return _blocks(results, blocks)


def _middle(seconds: list[float | None]) -> float | None:
    known = sorted(filter(None, seconds))
    return known[len(known) // 2] if known else None


def plot(results: dict[str, Any], path: Path) -> None:
    """Rates of every system, one panel a case."""
    panels = {}
    for case in results["cases"]:
        batch = f", batch {case['batch_size']}" if "batch_size" in case else ""
        panels[f"{case['model']}{batch}: rows a second"] = {
            one["system"]: one["rows_per_second"]
            for one in case["systems"]
            if one["rows_per_second"]
        }
    plot_spreads(panels, path)


def plot_spreads(panels: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Medians as dots with whiskers on logarithmic axes, one panel for each title."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    panels = {title: shown for title, shown in panels.items() if shown}
    if not panels:
        return
    heights = [0.6 + 0.22 * len(shown) for shown in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8, sum(heights)), height_ratios=heights, squeeze=False
    )
    for (title, shown), axis in zip(panels.items(), axes[:, 0], strict=True):
        ordered = dict(sorted(shown.items(), key=lambda item: item[1]["median"]))
        medians = [spread["median"] for spread in ordered.values()]
        whiskers = [
            [spread["median"] - spread["lowest"] for spread in ordered.values()],
            [spread["highest"] - spread["median"] for spread in ordered.values()],
        ]
        colours = ["#b5485d" if "aejax" in name else "#8a94a6" for name in ordered]
        axis.errorbar(medians, list(ordered), xerr=whiskers, fmt="none", ecolor=colours, lw=1)
        axis.scatter(medians, list(ordered), color=colours, s=18, zorder=3)
        axis.set_xscale("log")
        axis.grid(axis="x", which="both", color="0.9", lw=0.6)
        axis.margins(y=0.5 / len(ordered))
        axis.set_title(title, fontsize=9, loc="left")
        axis.tick_params(which="both", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    plt.close(figure)
