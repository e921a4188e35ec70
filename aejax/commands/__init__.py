"""What each command takes and does. Heavy modules load when a command runs, not before."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from aejax.config import Config, Dense, Precision, Scale, Train

Json = Annotated[bool, arg(help="Print one JSON object instead of text.")]
Out = Annotated[Path, arg(help="Folder to write to.")]
Overwrite = Annotated[bool, arg(help="Replace the run that the folder holds.")]
Quiet = Annotated[bool, arg(help="No progress bar.")]
Profile = Annotated[
    Path | None, arg(help="Folder for a profile of this run, for XProf, TensorBoard or Perfetto.")
]
Names = tuple[str, ...]
LabelColumn = Annotated[str | None, arg(help="Column that says what a row is; never a feature.")]
NormalLabel = Annotated[
    str | None,
    arg(help="Label of normal rows; all others are anomalies. Default: labels are 0 or 1."),
]
DropColumns = Annotated[Names, arg(help="Columns that are not features.")]
HasHeader = Annotated[bool, arg(help="Whether a CSV file's first line names its columns.")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipes:
    """List the published experiments with their numbers."""

    json: Json = False

    def run(self) -> dict[str, Any]:
        """Find every recipe."""
        from aejax import recipes

        found = [recipes.find(name) for name in recipes.NAMES]
        return {
            recipe.name: {
                "title": recipe.title,
                "source": recipe.source,
                "time": recipe.time,
                "published": dict(recipe.published),
            }
            for recipe in found
        }

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """A paragraph a recipe."""
        blocks = []
        for name, facts in result.items():
            numbers = ", ".join(f"{key} {value:g}" for key, value in facts["published"].items())
            blocks.append(
                f"{name}\n    {facts['title']}\n    from: {facts['source']}\n"
                f"    published: {numbers or 'nothing'}\n    takes: {facts['time']}"
            )
        return "\n".join(blocks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Run a published experiment: data, training, calibration, scoring, report."""

    recipe: Positional[Annotated[str, arg(help="Its name, from `aejax recipes`.")]]
    out: Out
    seed: Annotated[int, arg(help="Seed of everything random.")] = 0
    quick: Annotated[bool, arg(help="A part of the rows and two epochs, to see that it works.")] = (
        False
    )
    overwrite: Overwrite = False
    tensorboard: Annotated[bool, arg(help="Write TensorBoard event files to OUT/tensorboard.")] = (
        False
    )
    profile: Profile = None
    quiet: Quiet = False
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Run the recipe."""
        from aejax import recipes
        from aejax.recipes.runner import run_recipe

        with StopOnSigterm() as should_stop:
            return run_recipe(
                recipes.find(self.recipe),
                self.out,
                seed=self.seed,
                quick=self.quick,
                overwrite=self.overwrite,
                tensorboard=self.out / "tensorboard" if self.tensorboard else None,
                progress=not self.quiet,
                should_stop=should_stop,
            )

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """Published and measured, side by side."""
        lines = [f"{'':24}{'published':>12}{'measured':>12}"]
        for name, value in result["measured"].items():
            published = result["published"].get(name)
            shown = "" if published is None else f"{published:.4f}"
            lines.append(f"{name:24}{shown:>12}{value:>12.4f}")
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in result["seconds"].items())
        return "\n".join([*lines, f"({seconds})", f"report: {result['report']}"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Train a detector on your own rows: CSV, Parquet, npy or npz."""

    input: Annotated[Path, arg(help="File of training rows; with labels, only normal rows train.")]
    out: Out
    model: Annotated[Literal["dense", "conv"], arg(help="Network; its settings are flags too.")] = (
        "dense"
    )
    network: Annotated[Any, arg(name="")] = Dense()
    scale: Scale = Scale()
    train: Annotated[Train, arg(name="")] = Train()
    error: Annotated[
        Literal["squared", "absolute"], arg(help="Error of a feature when scoring.")
    ] = "squared"
    rule: Annotated[str, arg(help="First threshold, on held-out rows: RULE:NUMBER.")] = (
        "quantile:0.99"
    )
    precision: Annotated[Precision, arg(help="Type of the products when scoring.")] = "float32"
    label_column: LabelColumn = None
    normal_label: NormalLabel = None
    drop_columns: DropColumns = ()
    header: HasHeader = True
    overwrite: Overwrite = False
    tensorboard: Annotated[Path | None, arg(help="Folder for TensorBoard event files.")] = None
    profile: Profile = None
    quiet: Quiet = False
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Read, train, calibrate, save."""
        from aejax.config import parse_rule
        from aejax.recipes.own_rows import train_on_file

        config = Config(
            model=self.network,
            scale=self.scale,
            train=self.train,
            error=self.error,
            rule=parse_rule(self.rule),
            precision=self.precision,
        )
        with StopOnSigterm() as should_stop:
            return train_on_file(
                config,
                self.input,
                self.out,
                selection=_selection(self),
                overwrite=self.overwrite,
                tensorboard=self.tensorboard,
                progress=not self.quiet,
                should_stop=should_stop,
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Set a run's threshold anew, on rows taken to be normal. Nothing is trained."""

    run_folder: Positional[Annotated[Path, arg(name="run", help="Folder of a run or a detector.")]]
    input: Annotated[
        Path,
        arg(help="File of calibration rows; with labels, only normal rows count (best-f1: all)."),
    ]
    rule: Annotated[str, arg(help="Such as quantile:0.99, mean-std:3, conformal:0.01 or best-f1.")]
    label_column: LabelColumn = None
    normal_label: NormalLabel = None
    header: HasHeader = True
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Score the rows, find the threshold, save it."""
        from aejax.config import parse_rule
        from aejax.recipes.own_rows import calibrate_on_file

        return calibrate_on_file(
            self.run_folder, self.input, parse_rule(self.rule), selection=_selection(self)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """Score a file of any size into Parquet parts; the same command continues a stopped job."""

    run_folder: Positional[Annotated[Path, arg(name="run", help="Folder of a run or a detector.")]]
    input: Annotated[
        tuple[str, ...],
        arg(
            help="Files, folders or patterns of rows, or a data set as mnist:test; "
            "columns are matched by name."
        ),
    ]
    out: Out
    key: Annotated[Names, arg(help="Columns to carry through to the scores.")] = ()
    top_features: Annotated[int, arg(help="How many features to name for every row.")] = 0
    top: Annotated[
        int, arg(help="How many of the most anomalous rows to write to _top/rows.parquet.")
    ] = 0
    batch_size: Annotated[
        int | None, arg(help="Rows in a compiled batch. Default: by the width of a row.")
    ] = None
    part_rows: Annotated[
        int | None, arg(help="Input rows in one output part. Default: by the width of a row.")
    ] = None
    on_bad_row: Annotated[
        Literal["null", "error"],
        arg(help="Give a row with a missing or unreadable value a null score, or stop at it."),
    ] = "null"
    restart: Annotated[bool, arg(help="Start over, deleting the scores that are there.")] = False
    append: Annotated[bool, arg(help="Score only the files that are new to OUT.")] = False
    header: HasHeader = True
    progress: Annotated[
        Literal["bar", "json"], arg(help="On stderr: a bar, or lines of JSON for schedulers.")
    ] = "bar"
    quiet: Quiet = False
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Score the files."""
        from aejax.data.rows import Selection
        from aejax.detection.detector import load
        from aejax.scoring.stream import score_files

        with StopOnSigterm() as should_stop:
            return score_files(
                load(self.run_folder),
                self.input[0] if len(self.input) == 1 else self.input,
                self.out,
                selection=Selection(key_columns=self.key, header=self.header),
                top_features=self.top_features,
                top=self.top,
                batch_size=self.batch_size,
                part_rows=self.part_rows,
                on_bad_row=self.on_bad_row,
                restart=self.restart,
                append=self.append,
                progress="none" if self.quiet else self.progress,
                should_stop=should_stop,
            )

    @staticmethod
    def show(result: dict[str, Any]) -> str:
        """Everything but the histogram, a line each."""
        lines = []
        for name, value in result.items():
            if name == "histogram" or value in (None, {}):
                continue
            if isinstance(value, dict):
                value = ", ".join(f"{key}: {number:.6g}" for key, number in value.items())
            elif isinstance(value, float):
                value = f"{value:.6g}"
            lines.append(f"{name}: {value}")
        return "\n".join(lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Judge scores against labels: AUROC, average precision, F1, confusion, with intervals."""

    scores: Positional[Annotated[Path, arg(help="Folder that `aejax score` wrote.")]]
    labels: Annotated[
        Path | None, arg(help="File with the label column, its rows in the scored file's order.")
    ] = None
    label_column: Annotated[str, arg(help="Column of labels, there or among the carried keys.")] = (
        "label"
    )
    normal_label: NormalLabel = None
    threshold: Annotated[
        float | None, arg(help="Default: the one that the rows were flagged by.")
    ] = None
    header: HasHeader = True
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Read scores and labels and compare them."""
        from aejax.scoring.judge import evaluate_scores

        return evaluate_scores(
            self.scores, self.labels, selection=_selection(self), threshold=self.threshold
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspect:
    """Say what a run, a detector or a scores folder holds."""

    path: Positional[Annotated[Path, arg(help="Its folder.")]]
    shapes: Annotated[bool, arg(help="Also the shape and type of every array.")] = False
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Look into the folder."""
        from aejax.scoring.inspection import inspect_folder

        return inspect_folder(self.path, shapes=self.shapes)


COMMANDS: dict[str, type] = {
    "recipes": Recipes,
    "run": Run,
    "train": Training,
    "calibrate": Calibrate,
    "score": Score,
    "evaluate": Evaluate,
    "inspect": Inspect,
}


def _selection(command: Any) -> Any:
    from aejax.data.rows import Selection

    return Selection(
        label_column=command.label_column,
        normal_label=command.normal_label,
        drop_columns=getattr(command, "drop_columns", ()),
        header=command.header,
    )


class StopOnSigterm:
    """Within this context SIGTERM makes the given function return True instead of killing."""

    def __enter__(self) -> Callable[[], bool]:
        self.asked = False
        self.before = signal.signal(signal.SIGTERM, self._ask)
        return lambda: self.asked

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)

    def _ask(self, *_: object) -> None:
        self.asked = True
