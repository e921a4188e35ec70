"""From normal rows to a detector: train, learn what is normal, check, set a threshold."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aejax.config import Combine, Config, InputError, Vary
from aejax.config.effort import Effort, cost
from aejax.data.disk_rows import Stored
from aejax.data.files import Input
from aejax.data.rows import Selection
from aejax.data.schema import Schema
from aejax.data.series import WindowRows
from aejax.data.sources import is_input
from aejax.data.training_rows import MEMORY_LIMIT, OnBadRow
from aejax.detection.alarms import record
from aejax.detection.calibration import calibrate
from aejax.detection.detector import Detector
from aejax.detection.file_rows import (
    groups_of_files,
    left_out_alarms,
    more_windows,
    rows_of_files,
    stopper,
    training_series,
)
from aejax.detection.fit_one import fit_one
from aejax.detection.fit_several import fit_ensemble, fit_groups
from aejax.detection.members import check_member
from aejax.detection.plan import Rows, Training, refuse


def fit(
    config: Config | Effort,
    x_train: Any,
    *,
    members: int | None = None,
    combine: Combine = "mean",
    vary: Vary | None = None,
    groups: Any = None,
    group_column: str | None = None,
    least_rows: int | None = None,
    x_validation: Any = None,
    x_scale: Any = None,
    x_calibrate: Any = None,
    labels: Any = None,
    labels_validation: Any = None,
    initial: Mapping[str, Any] | None = None,
    watch: Callable[[Detector], Mapping[str, float]] | None = None,
    schema: Schema | None = None,
    selection: Selection | None = None,
    memory_limit: int = MEMORY_LIMIT,
    on_bad_row: OnBadRow = "leave-out",
    keep_rows: bool = False,
    folder: str | Path | None = None,
    tensorboard: str | Path | None = None,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint_seconds: float = 10.0,
    group_size: int | None = None,
    provenance: Mapping[str, Any] | None = None,
    devices: int | None = None,
) -> Detector:
    """Train a detector on normal rows and set its first threshold.

    One network; or with `members` an ensemble: all train on the same rows and differ in seed
    (and in what `vary` says), and their scores are combined. What varies from run to run
    averages out, which for autoencoders on tables is worth more than another architecture
    (compare Chen, Sathe, Aggarwal and Turaga, "Outlier Detection with Autoencoder Ensembles",
    SDM 2017). Or with `groups` a network for each group of rows, with its own scaler,
    validation rows, early stopping and threshold: what `fit` would have made of its rows alone.
    Several networks are trained side by side in one program and end as they would have alone, to
    the tolerance of `fit_population`.

    Args:
        config: all settings; or "quick", "standard" or "best", which are those of
            `Config.of_effort`, and for "best" four `members` where none are set.
        x_train: normal rows, [n, features], [n, height, width, channels], or a table with named
            columns, as in `Detector.score` (of mixed columns where `config.columns` says so);
            or the path of files that hold them, or several: see `aejax.data.files.open_rows`. Rows
            of more than `memory_limit` bytes stay on disk: a block of rows and a few batches are
            all that is in memory at a time, and the detector is the one of the same rows in
            memory with `Train.feed` "stream", bit for bit.
        members: how many networks score each row together; None for one network.
        combine: how members' scores become one. "rank" averages each score's rank among the same
            member's scores of the calibration rows (compare Lazarevic and Kumar 2005; Aggarwal
            and Sathe, SIGKDD Explorations 2015).
        vary: what members differ in besides the seed.
        groups: each row's group, [n], of text or whole numbers; or the name of the column that
            holds it.
        group_column: what the column of groups is called in files, if `groups` isn't its name.
        least_rows: groups with fewer rows are left out and listed in `groups.skipped`; None
            refuses them if they can't be trained.
        x_validation: rows for the validation loss; None holds out
            `config.train.validation_fraction` of the training rows. Held-out rows are what
            the threshold is set on; where there are none, or rows were given (they may
            hold anomalies), the training rows are. Where `config.calibration` says
            "cross-fitted", none are held out: all rows train, and the threshold is set on all,
            scored by networks that didn't see them.
        x_scale: rows that the scaler is fitted on; None takes the training rows.
        x_calibrate: rows that the threshold is set on instead.
        labels: each training row's class, whole numbers [n], for a `Classifier` only.
        labels_validation: the same of `x_validation`.
        initial: variables to start from instead of fresh ones, as another detector's
            `variables`; see `aejax.detection.transfer`.
        watch: called after every epoch with the detector as it is then, which has no
            threshold; the numbers that it returns join the history.
        schema: of the rows; None infers it.
        selection: of files, which columns are labels and features. Only rows with a normal label
            train.
        memory_limit: of files, most bytes of rows to hold in memory.
        on_bad_row: of files, "leave-out" goes on without rows that hold a missing, infinite or
            unreadable value, and tells how many they were; "error" stops at the first.
        keep_rows: leave rows that were copied from files in `folder` for a later run.
        folder: keeps checkpoints and history, or of several networks those that are trained,
            and continues the run that it holds. None uses the system's folder for temporary
            files (TMPDIR names another) for rows that don't fit in memory.
        tensorboard: folder for TensorBoard event files.
        progress: whether to draw a progress bar on stderr.
        should_stop: asked now and then; True checkpoints and raises `Interrupted`.
        checkpoint_seconds: least time between two checkpoints.
        group_size: networks in one program; None lets their size decide.
        provenance: more facts to keep with the detector. "data", if given, is what tells these
            training rows from others; otherwise their bytes are hashed for it.
        devices: how many of this process's devices share each batch, in training and in
            scoring by the detector; None takes all.

    Returns:
        A detector with a threshold by `config.rule`; of groups, one for each.

    Raises:
        InputError: if rows are too few, not numbers, not finite or don't fit the model, files
            can't be read, or arguments don't go together.
        Diverged: at the first step whose loss is not finite, of one network.
        Interrupted: when `should_stop` said so.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
        >>> config = aejax.Config(model=aejax.Dense(hidden=(2,)), calibration="held-out")
        >>> fit(config, x).score(x).shape
        (500,)
        >>> fit(config, x, members=3).members
        3
        >>> stores = np.arange(500) % 4
        >>> fit(config, x, groups=stores).score(x[:2], groups=stores[:2]).shape
        (2,)
    """
    started = time.monotonic()
    if not isinstance(config, Config):
        members = cost(config).members if members is None else members
        config = Config.of_effort(config)
    how = Training(
        folder=None if folder is None else Path(folder),
        tensorboard=None if tensorboard is None else Path(tensorboard),
        progress=progress,
        should_stop=should_stop,
        checkpoint_seconds=checkpoint_seconds,
        initial=initial,
        watch=watch,
        group_size=group_size,
        devices=devices,
        fingerprint=(provenance or {}).get("data"),
    )
    alone = {
        "labels": labels,
        "labels_validation": labels_validation,
        "initial": initial,
        "watch": watch,
        "tensorboard": tensorboard,
    }
    several = groups is not None or members is not None
    if several:
        check_member(config)
        refuse("groups" if groups is not None else f"members={members}", **alone)
    if members is None and (vary is not None or combine != "mean"):
        name = "combine" if vary is None else "vary"
        raise InputError(f"{name} is given without members; allowed: with members")
    if groups is None and least_rows is not None:
        raise InputError("least_rows is given without groups; allowed: with groups")
    if groups is not None:
        refuse(
            "groups",
            members=members,
            x_validation=x_validation,
            x_scale=x_scale,
            x_calibrate=x_calibrate,
        )
    with contextlib.ExitStack() as stack:
        left_out: list[str] = []
        column = group_column or (groups if isinstance(groups, str) else "group")
        if config.window is not None and not isinstance(x_train, WindowRows):
            for name, value in (("groups", groups), ("x_scale", x_scale), ("labels", labels)):
                if value is not None:
                    raise InputError(f"{name} is given with Config.window; allowed: None")
            x_train, left_out = training_series(
                config,
                x_train,
                schema,
                selection=selection,
                memory_limit=memory_limit,
                on_bad_row=on_bad_row,
                after_block=stopper(should_stop, x_train),
            )
            if x_validation is not None:
                x_train = x_train.thinned()
                x_validation = more_windows(config, x_validation, x_train.schema)
            if x_calibrate is not None:
                x_calibrate = more_windows(config, x_calibrate, x_train.schema)
            schema = x_train.schema
        elif is_input(x_train):
            x_train, groups, schema, left_out = stack.enter_context(
                _read(
                    config,
                    x_train,
                    groups,
                    schema=schema,
                    folder=how.folder,
                    selection=selection,
                    memory_limit=memory_limit,
                    on_bad_row=on_bad_row,
                    keep_rows=keep_rows,
                    should_stop=should_stop,
                )
            )
        rows = Rows(x_train, x_validation, x_scale, x_calibrate, labels, labels_validation, schema)
        if groups is not None:
            trained = fit_groups(config, rows, groups, column, least_rows, how)
        elif members is not None:
            trained = fit_ensemble(config, rows, members, combine, vary or Vary(), how)
        else:
            trained = fit_one(config, rows, how)
        detector, alarms = trained.detector, [*left_out, *trained.alarms]
        detector = dataclasses.replace(detector, provenance=record(detector.provenance, alarms))
        if trained.scores is not None:
            detector = detector.calibrate_by(trained.scores, trained.members)
        elif trained.members is None:
            detector = calibrate(detector, trained.calibrating)
        else:
            scores = detector.score_rows(
                trained.calibrating[:], members=trained.members, check=True
            )
            detector = detector.calibrate_by(scores, trained.members)
    facts = {"train_seconds": round(time.monotonic() - started, 3), **(provenance or {})}
    return dataclasses.replace(detector, provenance={**detector.provenance, **facts})


@contextlib.contextmanager
def _read(
    config: Config,
    path: Input,
    groups: object,
    *,
    folder: Path | None,
    schema: Schema | None,
    selection: Selection | None,
    should_stop: Callable[[], bool],
    **how: Any,
) -> Iterator[tuple[Stored, Any, Schema, list[str]]]:
    """Normal rows of files, each one's group or None, their schema, and what to say of them."""
    if groups is not None:
        if not isinstance(groups, str):
            raise InputError(
                f"groups is {type(groups).__name__}; allowed with files: the name of a column"
            )
        read = groups_of_files(config, path, groups, selection or Selection(), schema)
        yield read.x[read.normal], read.groups[read.normal], read.schema, []
        return
    with rows_of_files(
        config,
        path,
        folder=folder,
        selection=selection,
        schema=schema,
        should_stop=should_stop,
        **how,
    ) as rows:
        yield rows.normal, None, rows.schema, left_out_alarms(rows.left_out)
