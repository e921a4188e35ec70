"""Pages of the site that are kept elsewhere in the repository."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog, benchmarks/README.md and the pictures that it shows."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=changes))
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "benchmarks.md", content=page))
    for picture in sorted((ROOT / "benchmarks" / "results").glob("*.png")):
        if f"results/{picture.name}" in page:
            name = f"results/{picture.name}"
            files.append(File.generated(config, name, content=picture.read_bytes()))
    return files
