"""The commands that look inside a model: latent values, states of layers, new rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from aejax.commands.scoring import Score
from aejax.commands.shared import Json, Names, NoHeader, Out, Quiet, StopOnSigterm, Text
from aejax.config import Dialect

RunFolder = Annotated[Path, arg(name="run", help="Folder of a run or a detector.")]
Input = Annotated[
    tuple[str, ...],
    arg(help="Files, folders or patterns of rows, or a data set as mnist:test."),
]
Key = Annotated[Names, arg(help="Columns to carry through.")]
Restart = Annotated[bool, arg(help="Start over, deleting what is there.")]
ProgressFlag = Annotated[Literal["bar", "json"], arg(help="On stderr: a bar, or lines of JSON.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """What both commands need."""

    run_folder: Positional[RunFolder]
    input: Input
    out: Out
    key: Key = ()
    restart: Restart = False
    no_header: NoHeader = False
    text: Text = Dialect()
    progress: ProgressFlag = "bar"
    quiet: Quiet = False
    json: Json = False

    show = staticmethod(Score.show)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encode(Rows):
    """Write every row's latent values as Parquet, with its score; resumes like `aejax score`."""

    def run(self) -> dict[str, Any]:
        """Encode the files."""
        return _write(self, "latent")


@dataclasses.dataclass(frozen=True, kw_only=True)
class States(Rows):
    """Write the states of a layer's neurons for every row as Parquet; resumes likewise."""

    layer: Annotated[str, arg(help="Its name; a wrong one lists those that there are.")]

    def run(self) -> dict[str, Any]:
        """Capture the states."""
        return _write(self, self.layer)


def _write(command: Rows, layer: str) -> dict[str, Any]:
    from aejax.data.rows import Selection
    from aejax.detection.loading import load
    from aejax.scoring.stream import score_files

    with StopOnSigterm() as should_stop:
        return score_files(
            load(command.run_folder),
            command.input[0] if len(command.input) == 1 else command.input,
            command.out,
            selection=Selection(
                key_columns=command.key, header=not command.no_header, dialect=command.text
            ),
            layer=layer,
            restart=command.restart,
            progress="none" if command.quiet else command.progress,
            should_stop=should_stop,
        )
