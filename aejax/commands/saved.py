"""The commands on what was trained: export, report, look inside, explain a row."""

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explain:
    """Say why a row has its score: features found and expected, and a drawing of them."""

    run_folder: Positional[Annotated[Path, arg(name="run", help="Folder of a run or a detector.")]]
    input: Annotated[Path, arg(help="File of rows.")]
    row: Annotated[int, arg(help="Which row of it, from 0.")]
    top: Annotated[int, arg(help="How many features to name.")] = 5
    picture: Annotated[Path | None, arg(help="File for a drawing of the row, PNG.")] = None
    group_column: Annotated[
        str | None,
        arg(help="Of a detector of groups: the column of groups. Default: as in training."),
    ] = None
    no_header: NoHeader = False
    text: Text = Dialect()
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Explain the row."""
        from aejax.config import InputError
        from aejax.data.rows import Selection
        from aejax.recipes.explain_row import explain_row

        if self.top < 1:
            raise InputError(f"top is {self.top}; allowed: at least 1")
        return explain_row(
            self.run_folder,
            self.input,
            self.row,
            top=self.top,
            picture=self.picture,
            selection=Selection(header=not self.no_header, bad_cells="null", dialect=self.text),
            group_column=self.group_column,
        )

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """The score in a sentence, and a line a feature."""
        threshold, verdict = result["threshold"], "no threshold"
        if threshold is not None:
            side = "above" if result["is_anomaly"] else "not above"
            verdict = f"{side} the threshold {threshold:.6g}"
        facts = [
            (fact, *(_shown(fact[side]) for side in ("found", "expected")))
            for fact in result["features"]
        ]
        width = max(12, *(2 + len(text) for _, *texts in facts for text in texts))
        of_group = f" of {result['group']!r}" if "group" in result else ""
        lines = [
            f"row {result['row']}{of_group}: score {result['score']:.6g}, {verdict}",
            f"{'feature':24}{'found':>{width}}{'expected':>{width}}"
            f"{'error':>12}{'usual error':>14}",
        ]
        note = "(errors are in scaled units, as the model sees them)"
        for fact, value, expected in facts:
            usual = "" if fact["usual_error"] is None else f"{fact['usual_error']:.4g}"
            if isinstance(fact["found"], str):
                note = "(errors are in scaled units, of categories in nats)"
            lines.append(
                f"{fact['feature']:24}{value:>{width}}{expected:>{width}}"
                f"{fact['error']:>12.4g}{usual:>14}"
            )
        lines.append(note)
        if "picture" in result:
            lines.append(f"picture: {result['picture']}")
        return "\n".join(lines)


def _shown(value: float | str) -> str:
    """A number, or of a mixed table a cell in words."""
    return value if isinstance(value, str) else f"{value:.6g}"
