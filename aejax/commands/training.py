"""The commands that train and calibrate on a person's own rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from aejax.commands.shared import (
    Devices,
    DropColumns,
    Ensemble,
    HasHeader,
    Json,
    LabelColumn,
    NormalLabel,
    Out,
    Overwrite,
    Profile,
    Quiet,
    StopOnSigterm,
    selection,
)
from aejax.config import Config, Dense, Precision, Scale, ScoreName, Train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Train a detector on your own rows: CSV, Parquet, npy or npz."""

    input: Annotated[Path, arg(help="File of training rows; with labels, only normal rows train.")]
    out: Out
    model: Annotated[
        Literal["dense", "conv", "super-resolution", "variational"],
        arg(help="Network; its settings are flags too."),
    ] = "dense"
    network: Annotated[Any, arg(name="")] = Dense()
    scale: Scale = Scale()
    train: Annotated[Train, arg(name="")] = Train()
    error: Annotated[
        Literal["squared", "absolute", "bernoulli"], arg(help="Error of a feature when scoring.")
    ] = "squared"
    score: Annotated[ScoreName, arg(help="What a row's score is; all but error: variational.")] = (
        "error"
    )
    rule: Annotated[str, arg(help="First threshold, on held-out rows: RULE:NUMBER.")] = (
        "quantile:0.99"
    )
    precision: Annotated[Precision, arg(help="Type of the products when scoring.")] = "float32"
    ensemble: Ensemble = None
    devices: Devices = None
    distributed: Annotated[
        bool, arg(help="This is one of several processes that train together, as Slurm says.")
    ] = False
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
            score=self.score,
            rule=parse_rule(self.rule),
            precision=self.precision,
        )
        with StopOnSigterm() as should_stop:
            return train_on_file(
                config,
                self.input,
                self.out,
                selection=selection(self),
                ensemble=self.ensemble,
                overwrite=self.overwrite,
                tensorboard=self.tensorboard,
                progress=not self.quiet,
                should_stop=should_stop,
                devices=self.devices,
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Set a run's threshold anew, on rows taken to be normal. Nothing is trained."""

    run_folder: Positional[Annotated[Path, arg(name="run", help="Folder of a run or a detector.")]]
    rule: Annotated[
        str,
        arg(help="Such as quantile:0.99, mean-std:3, conformal:0.01, best-f1 or fixed:0.05."),
    ]
    input: Annotated[
        Path | None,
        arg(
            help="File of calibration rows; with labels, only normal rows count (best-f1: all; "
            "fixed: no file)."
        ),
    ] = None
    label_column: LabelColumn = None
    normal_label: NormalLabel = None
    header: HasHeader = True
    json: Json = False

    def run(self) -> dict[str, Any]:
        """Score the rows, find the threshold, save it."""
        from aejax.config import parse_rule
        from aejax.recipes.own_rows import calibrate_on_file

        return calibrate_on_file(
            self.run_folder, self.input, parse_rule(self.rule), selection=selection(self)
        )
