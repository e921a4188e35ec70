"""The command that exports a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from aejax.commands.shared import Json, Out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write a scorer that needs neither aejax nor flax, once it is seen to score the same."""

    run_folder: Positional[Annotated[Path, arg(name="run", help="Folder of a run or a detector.")]]
    out: Out
    format: Annotated[
        Literal["stablehlo", "onnx"],
        arg(help="For JAX on CPU, GPU and TPU; or for ONNX runtimes, threshold inside."),
    ] = "stablehlo"
    top_features: Annotated[
        int, arg(help="Most features that a StableHLO export can name for a row.")
    ] = 5
    group: Annotated[
        str | None, arg(help="With detectors of groups: the group whose detector to export.")
    ] = None
    overwrite: Annotated[bool, arg(help="Replace the export that the folder holds.")] = False
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Export, check, and only then give the folder its name."""
        from aejax.scoring.exporting import export_run

        return export_run(
            self.run_folder,
            self.out,
            format=self.format,
            top_features=self.top_features,
            overwrite=self.overwrite,
            group=self.group,
        )
