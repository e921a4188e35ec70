"""The command that writes a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from aejax.commands.shared import Json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report of a folder of scores, or that of a run anew with the threshold in force."""

    path: Positional[Annotated[Path, arg(help="Folder that `aejax score` wrote, or of a run.")]]
    out: Annotated[
        Path | None,
        arg(help="Folder for the page. Default: the run's own; of scores _report in their folder."),
    ] = None
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Read the folder and write the page."""
        from aejax.reporting.make import report

        return {"report": str(report(self.path, self.out))}
