"""The commands that train and calibrate on a person's own rows."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, UseAppendAction, arg

from aejax.commands import shared
from aejax.config import (
    RULES,
    Calibration,
    Columns,
    Combine,
    Config,
    Dialect,
    Effort,
    InputError,
    PrecisionSetting,
    Scale,
    Train,
    Vary,
    Window,
)
from aejax.config.own_network import named_network
from aejax.config.rules import default_rule, rule_text
from aejax.config.scores import CHOICES

UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
    "TIB": 1 << 40,
}
RULE = rule_text(default_rule())
_DEFAULT = Config()


def parse_bytes(text: str, name: str) -> int:
    """A number of bytes.

    Args:
        text: such as "2 GiB", "500MB" or "1048576".
        name: of the setting, for messages.

    Raises:
        InputError: if it is no size.

    Example:
        >>> parse_bytes("1.5 KiB", "memory_limit")
        1536
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].upper() not in UNITS:
        raise InputError(f"{name} is {text!r}; allowed: bytes, as in 500MB, 2 GiB or 1048576")
    return int(float(match[1]) * UNITS[match[2].upper()])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Train a detector on your own rows: CSV, Parquet, npy, npz or ArrayRecord, of any size."""

    input: Annotated[
        Path,
        arg(help="File, folder or pattern of training rows; with labels, only normal rows train."),
    ]
    out: shared.Out
    model: Annotated[
        str,
        arg(
            help="Network: dense, conv, temporal, super-resolution, variational, "
            "noise-conditioned, whose settings are flags too; or one of your own, "
            "package.module:Class."
        ),
    ] = "noise-conditioned"
    network: Annotated[Any, arg(name="")] = _DEFAULT.model
    settings: Annotated[
        tuple[str, ...],
        UseAppendAction,
        arg(
            name="set",
            metavar="NAME=VALUE",
            help="A field of a network of your own, as in --set width=64; may be repeated.",
        ),
    ] = ()
    columns: Columns = Columns()
    window: Annotated[
        Literal["auto"] | int | None,
        arg(
            help="Rows follow each other in time: score windows of so many, back to each row; "
            "auto: of the series' period."
        ),
    ] = None
    time_column: Annotated[
        str | None, arg(help="Column of times; windows end at gaps. Takes windows.")
    ] = None
    series_column: Annotated[
        str | None,
        arg(help="Column that names the series, where a table has several."),
    ] = None
    window_scores: Annotated[
        Literal["causal", "centred"],
        arg(help="A row's score: of the window that ends with it, or the mean of all it is in."),
    ] = "causal"
    window_stride: Annotated[int, arg(help="Rows from one training window to the next.")] = 1
    window_gap: Annotated[
        float, arg(help="Steps in time longer than so many usual ones end a window.")
    ] = 3.0
    window_order: Annotated[
        Literal["refuse", "sort"], arg(help="What becomes of training rows whose times don't rise.")
    ] = "refuse"
    scale: Scale = _DEFAULT.scale
    train: Annotated[Train, arg(name="")] = _DEFAULT.train
    error: Annotated[
        Literal["squared", "absolute", "bernoulli"], arg(help="Error of a feature when scoring.")
    ] = "squared"
    score: Annotated[
        str,
        arg(help=f"What a row's score is: {', '.join(CHOICES)}, or package.module:Class."),
    ] = str(_DEFAULT.score)
    rule: Annotated[
        str,
        arg(help="First threshold, on held-out rows: RULE:NUMBER, or package.module:Class."),
    ] = RULE
    precision: Annotated[
        PrecisionSetting, arg(help="Type of the products when scoring; fastest: measured.")
    ] = "float32"
    calibration: Annotated[
        Calibration,
        arg(
            help="Whose scores set the first threshold: those of rows held out; those of all rows, "
            "each by a network that is trained without it, which takes five trainings more; auto: "
            "these for up to 2,000 rows."
        ),
    ] = _DEFAULT.calibration
    effort: Annotated[
        Effort | None,
        arg(
            help="One dial for network, noise, steps, score, clipping and members, where other "
            "flags don't name them. quick: 400 steps; standard, the default where no network is "
            "named: 1,500; best: four networks."
        ),
    ] = None
    contaminated: Annotated[
        bool,
        arg(
            help="There may be anomalies among the rows: the effort's training is short and leaves "
            "out the largest losses, and a tenth of the rows that set the threshold is flagged."
        ),
    ] = False
    ensemble: shared.Ensemble = None
    combine: Annotated[
        Combine, arg(help="How an ensemble's scores become one; rank: by calibration rows.")
    ] = "mean"
    vary: Vary = Vary()
    group_column: Annotated[
        str | None, arg(help="Column of groups (stores, sensors): a network for each of them.")
    ] = None
    least_rows: Annotated[
        int | None, arg(help="Leave out groups with fewer normal rows, and report them.")
    ] = None
    devices: shared.Devices = None
    distributed: Annotated[
        bool, arg(help="This is one of several processes that train together, as Slurm says.")
    ] = False
    label_column: shared.LabelColumn = None
    normal_label: shared.NormalLabel = None
    drop_columns: shared.DropColumns = ()
    key: shared.Keys = ()
    no_header: shared.NoHeader = False
    text: shared.Text = Dialect()
    memory_limit: Annotated[
        str,
        arg(help="Rows of more bytes (2 GiB, 500MB) are picked from disk instead of memory."),
    ] = "1 GiB"
    on_bad_row: Annotated[
        Literal["leave-out", "error"],
        arg(help="Train without rows that have a missing or unreadable value, or stop at one."),
    ] = "leave-out"
    keep_rows: Annotated[
        bool, arg(help="Leave rows that were copied to OUT/rows there, for another run.")
    ] = False
    overwrite: shared.Overwrite = False
    tensorboard: Annotated[Path | None, arg(help="Folder for TensorBoard event files.")] = None
    profile: shared.Profile = None
    quiet: shared.Quiet = False
    json: shared.Json = False

    def run(self) -> dict[str, Any]:
        """Read, train, calibrate, save."""
        from aejax.config import parse_rule, parse_score
        from aejax.recipes.own_rows import train_on_file

        network = self.network
        if ":" in self.model:
            network = named_network(self.model, self.settings)
        elif self.settings:
            raise InputError("--set is given; allowed: with --model package.module:Class")
        config = Config(
            model=network,
            scale=self.scale,
            train=self.train,
            error=self.error,
            score=parse_score(self.score),
            rule=parse_rule(self.rule),
            precision=self.precision,
            calibration=self.calibration,
            columns=self.columns,
            window=self._window(),
        )
        if self.group_column is not None:
            from aejax.recipes.own_groups import train_groups_on_file

            for flag, setting in (
                ("ensemble", self.ensemble),
                ("tensorboard", self.tensorboard),
                ("window", config.window),
            ):
                if setting is not None:
                    raise InputError(f"--{flag} is given with --group-column; allowed: one of them")
            with shared.StopOnSigterm() as should_stop:
                return train_groups_on_file(
                    config,
                    self.input,
                    self.out,
                    column=self.group_column,
                    least_rows=self.least_rows,
                    selection=shared.selection(self),
                    overwrite=self.overwrite,
                    progress=not self.quiet,
                    should_stop=should_stop,
                )
        if self.least_rows is not None:
            raise InputError("--least-rows is given; allowed: with --group-column")
        with shared.StopOnSigterm() as should_stop:
            return train_on_file(
                config,
                self.input,
                self.out,
                selection=shared.selection(self),
                memory_limit=parse_bytes(self.memory_limit, "--memory-limit"),
                on_bad_row=self.on_bad_row,
                keep_rows=self.keep_rows,
                ensemble=self.ensemble,
                combine=self.combine,
                vary=None if self.vary == Vary() else self.vary,
                overwrite=self.overwrite,
                tensorboard=self.tensorboard,
                progress=not self.quiet,
                should_stop=should_stop,
                devices=self.devices,
            )

    def _window(self) -> Window | None:
        """The windows that are asked for."""
        asked = {
            "--window-scores": (self.window_scores, "causal"),
            "--window-stride": (self.window_stride, 1),
            "--window-gap": (self.window_gap, 3.0),
            "--window-order": (self.window_order, "refuse"),
        }
        if self.window is None and self.time_column is None and self.series_column is None:
            for flag, (value, usual) in asked.items():
                if value != usual:
                    raise InputError(f"{flag} is {value}; allowed: with --window or --time-column")
            return None
        return Window(
            length=None if self.window == "auto" else self.window,
            stride=self.window_stride,
            time=self.time_column,
            series=self.series_column,
            scores=self.window_scores,
            gap=self.window_gap,
            order=self.window_order,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Set a run's threshold anew, on rows taken to be normal. Nothing is trained."""

    run_folder: Positional[Annotated[Path, arg(name="run", help="Folder of a run or a detector.")]]
    rule: Annotated[
        str,
        arg(
            help=f"{', '.join(RULES)}, most with a number, as in {RULE}; or a rule of your own, "
            "package.module:Class."
        ),
    ]
    input: Annotated[
        Path | None,
        arg(
            help="File of calibration rows; with labels, only normal rows count, but all for a "
            "rule that needs labels. None for a rule that needs no scores."
        ),
    ] = None
    label_column: shared.LabelColumn = None
    normal_label: shared.NormalLabel = None
    no_header: shared.NoHeader = False
    text: shared.Text = Dialect()
    json: shared.Json = False

    def run(self) -> dict[str, Any]:
        """Score the rows, find the threshold, save it."""
        from aejax.config import parse_rule
        from aejax.recipes.own_rows import calibrate_on_file

        return calibrate_on_file(
            self.run_folder, self.input, parse_rule(self.rule), selection=shared.selection(self)
        )
