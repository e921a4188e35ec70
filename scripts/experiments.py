"""Write docs/experiments.md and docs/gallery.md from the runs of the published experiments.

    for name in $(aejax recipes --json | python -c 'import json, sys; print(*json.load(sys.stdin))')
    do aejax run $name --out runs/$name; done
    python scripts/experiments.py runs

Every number on the page is read from a run's metrics.json; plots are copied from the run.
A folder of several seeds (`aejax run NAME --out runs/NAME --seeds 8`) gives its median and range.
The experiments that are not among the runs keep what the page says of them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aejax import recipes

PAGE = Path(__file__).parents[1] / "docs" / "experiments.md"
GALLERY = "gallery.md"
MOST_PLOTS = 2
GALLERY_HEAD = """# Gallery

Every published experiment that comes with aejax: `aejax recipes` lists them, and each command
leaves a report. [Their page](experiments.md) has published and measured numbers side by side. The
data sets need `pip install "aejax[recipes]"`, MNIST and Fashion-MNIST `aejax[prepare]`."""
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


def entry(name: str, lines: list[str]) -> str:
    """The gallery's entry of an experiment: a picture of its section, a sentence, the command."""
    picture = next(line for line in lines if line.startswith("!["))
    command = next(line for line in lines if line.startswith("    aejax run"))
    recipe = recipes.find(name)
    picture = f"![{recipe.title}]" + picture[picture.index("](") + 1 :]
    return "\n\n".join([f"## {recipe.title}", recipe.summary, command, picture])


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with a run of each recipe, by its name")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    pictures = options.out.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    before = options.out.read_text(encoding="utf-8") if options.out.is_file() else ""
    sections = {
        text.partition("\n")[0]: f"## {text}".splitlines() for text in before.split("\n## ")[1:]
    }
    done = [name for name in recipes.NAMES if (options.runs / name / "metrics.json").is_file()]
    versions = re.findall("^Environment: (.*).$", before, re.MULTILINE)[-1:]
    for name in done:
        for old in pictures.glob(f"{name}-*.png"):
            old.unlink()
        sections[name] = section(name, options.runs / name, pictures)
        content = json.loads((options.runs / name / "metrics.json").read_text(encoding="utf-8"))
        versions = [", ".join(f"{key} {value}" for key, value in content["environment"].items())]
    missing = [name for name in recipes.NAMES if name not in sections]
    kept = {name: sections[name] for name in recipes.NAMES if name in sections}
    head = [
        "# The published experiments",
        "",
        "Written by `scripts/experiments.py` from the runs' `metrics.json`; not edited by hand.",
        *(f"Environment: {text}." for text in versions),
        "",
    ]
    if missing:
        head += [f"Not run for this page: {', '.join(missing)}.", ""]
    body = ["\n".join(lines).strip() for lines in kept.values()]
    options.out.write_text("\n".join(head) + "\n" + "\n\n".join(body) + "\n", encoding="utf-8")
    gallery = "\n\n".join([GALLERY_HEAD, *(entry(name, kept[name]) for name in kept)])
    options.out.with_name(GALLERY).write_text(gallery + "\n", encoding="utf-8")
    print(f"{options.out}: {len(done)} experiments, {len(missing)} missing")


if __name__ == "__main__":
    main()
