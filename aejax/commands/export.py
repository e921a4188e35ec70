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
        tuple[Literal["stablehlo", "onnx"], ...],
        arg(help="For JAX on CPU, GPU and TPU; or for ONNX runtimes, threshold inside; or both."),
    ] = ("stablehlo",)
    group: Annotated[
        str | None, arg(help="Of a detector of groups: one of them alone; without it all.")
    ] = None
    overwrite: Annotated[bool, arg(help="Replace the export that the folder holds.")] = False
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Export, check, and only then give the folder its name."""
        from aejax.config import InputError
        from aejax.detection.loading import load
        from aejax.exporting.export import export

        how: dict[str, Any] = {"formats": self.format, "overwrite": self.overwrite}
        if self.group is None:
            return export(self.run_folder, self.out, **how)
        detector = load(self.run_folder)
        if detector.groups is None:
            raise InputError(f"group is {self.group!r}; allowed with one detector: none")
        # What was measured of all groups says nothing of one: no metrics travel along.
        return export(detector.member(self.group), self.out, **how)
