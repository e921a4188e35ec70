"""Write docs/experiments.md from the runs of the published experiments.

    for name in $(aejax recipes --json | python -c 'import json, sys; print(*json.load(sys.stdin))')
    do aejax run $name --out runs/$name; done
    python scripts/experiments.py runs

Every number on the page is read from a run's metrics.json; plots are copied from the run.
A folder of several seeds (`aejax run NAME --out runs/NAME --seeds 8`) gives its median and range.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aejax import recipes

PAGE = Path(__file__).parents[1] / "docs" / "experiments.md"
MOST_PLOTS = 2
PREFERRED = ("figure_*", "most_anomalous", "scores", "losses")


def number(value: Any) -> str:
    """A number as the tables show it."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def rows_of(content: dict[str, Any], published: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    """Quantity, published, measured and range of every measured number."""
    metrics = content.get("metrics") or {}
    seeds = "seeds" in metrics
    for name, value in (content.get("measured") or {}).items():
        facts = metrics.get(name) if seeds else None
        spread = f"{number(facts['lowest'])} to {number(facts['highest'])}" if facts else ""
        yield name.replace("_", " "), number(published.get(name)), number(value), spread


def trained_together(folder: Path) -> bool:
    """Whether the seeds of a folder were trained in one program."""
    described = (
        json.loads(one.read_text(encoding="utf-8"))
        for one in folder.glob("seed-*/detector/detector.json")
    )
    return any("trained_together" in one["provenance"] for one in described)


def plots_of(folder: Path) -> list[Path]:
    """The plots to show: the recipe's own first."""
    found: list[Path] = []
    for pattern in PREFERRED:
        found += sorted((folder / "plots").glob(f"{pattern}.png"))
    return found[:MOST_PLOTS]


def section(name: str, folder: Path, pictures: Path) -> list[str]:
    """The page's section on one experiment."""
    recipe = recipes.find(name)
    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    metrics = content.get("metrics") or {}
    seeds = len(metrics["seeds"]) if "seeds" in metrics else None
    command = f"aejax run {name} --out runs/{name}" + (f" --seeds {seeds}" if seeds else "")
    if seeds and trained_together(folder):
        command += " --together"
    identity = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    seed = identity["data"].get("seed") or (
        identity["config"]["train"]["seed"] if "config" in identity else 0
    )
    if seed and not seeds:
        command += f" --seed {seed}"
    measured = "Median" if seeds else "Measured"
    lines = [f"## {name}", "", f"{recipe.summary}", "", f"Source: {recipe.source}.", ""]
    lines += [f"    {command}", ""]
    lines += [f"| | Published | {measured} |" + (" Range |" if seeds else "")]
    lines += ["| --- | ---: | ---: |" + (" ---: |" if seeds else "")]
    for cells in rows_of(content, recipe.published):
        shown = cells if seeds else cells[:3]
        lines.append("| " + " | ".join(shown) + " |")
    lines.append("")
    conclusions = metrics.get("conclusions") or []
    lines += [*(f"- {sentence}" for sentence in conclusions), *([""] if conclusions else [])]
    total = sum(
        value
        for key, value in (content.get("seconds") or {}).items()
        if key in ("data", "train", "score", "total")
    )
    if total:
        lines += [f"It took {total:.0f} s.", ""]
    for plot in plots_of(folder):
        kept = pictures / f"{name}-{plot.name}"
        shutil.copyfile(plot, kept)
        lines += [f"![{plot.stem.replace('_', ' ')}]({pictures.name}/{kept.name})", ""]
    return lines


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with a run of each recipe, by its name")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    pictures = options.out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    done = [name for name in recipes.NAMES if (options.runs / name / "metrics.json").is_file()]
    missing = [name for name in recipes.NAMES if name not in done]
    environment: dict[str, Any] = {}
    body: list[str] = []
    for name in done:
        body += section(name, options.runs / name, pictures)
        content = json.loads((options.runs / name / "metrics.json").read_text(encoding="utf-8"))
        environment = content.get("environment") or environment
    versions = ", ".join(f"{key} {value}" for key, value in environment.items())
    head = [
        "# The published experiments",
        "",
        "Written by `scripts/experiments.py` from the runs' `metrics.json`; not edited by hand.",
        f"Environment: {versions}.",
        "",
    ]
    if missing:
        head += [f"Not run for this page: {', '.join(missing)}.", ""]
    options.out.write_text("\n".join([*head, *body]).rstrip() + "\n", encoding="utf-8")
    print(f"{options.out}: {len(done)} experiments, {len(missing)} missing")


if __name__ == "__main__":
    main()
