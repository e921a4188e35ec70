"""Groups of rows (stores, sensors, users) that have a network each, and what is known of them."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aejax.config import Config, InputError, suggest
from aejax.data.batches import held_out
from aejax.data.frames import as_table, check_order
from aejax.data.groups import group_positions
from aejax.data.offsets import less_each
from aejax.detection.alarms import Alarm

MOST_GROUPS = 1 << 20
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_EPOCHS = 200
LOSSES = ("loss", "validation_loss")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """What is known of one group besides its arrays and its threshold.

    Attributes:
        name: as in the column that names groups.
        rows: that it was trained and calibrated on.
        best_epoch: the epoch that its parameters are of, or None for the last.
        loss: of the last epoch, in training.
        validation_loss: likewise, or None.
        error_left: mean error of its normal rows as a share of the untrained network's, or None.
        alarms: what would make its detector fail in silence.
        offset: what is subtracted of its rows, as `Schema.offset`.
        folds: of its rows, where networks that didn't see them set its threshold; else None.
    """

    name: str
    rows: int
    best_epoch: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    error_left: float | None = None
    alarms: tuple[Alarm, ...] = ()
    offset: tuple[float, ...] | None = None
    folds: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The group as a JSON-ready dict."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["alarms"] = [dataclasses.asdict(alarm) for alarm in self.alarms]
        for name in ("offset", "folds"):
            if fields[name] is None:
                del fields[name]
        return fields

    @staticmethod
    def from_dict(written: Mapping[str, Any], features: int) -> Group:
        """The group that `to_dict` wrote; raises InputError where it isn't one."""
        alarms = tuple(map(Alarm.from_dict, written["alarms"]))
        offset = written.get("offset")
        shift = None if offset is None else tuple(map(float, offset))
        if shift is not None and len(shift) != features:
            raise InputError(
                f"the offset of group {written['name']!r} has {len(shift)} numbers; "
                f"allowed: {features}"
            )
        return Group(**{**written, "alarms": alarms, "offset": shift})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    """The groups of a detector, in the order of its arrays' leading axis.

    Attributes:
        column: that names a row's group, in files.
        each: of the groups.
        skipped: groups of the training rows that have no network, and why.
    """

    column: str
    each: tuple[Group, ...]
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.each)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the groups that have a network."""
        return tuple(group.name for group in self.each)

    @functools.cached_property
    def _place(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.names)}

    @functools.cached_property
    def offsets(self) -> np.ndarray | None:
        """What is subtracted of each group's rows, float64 [groups, features]; None for nothing."""
        shifts = [group.offset for group in self.each]
        known = next((shift for shift in shifts if shift is not None), None)
        if known is None:
            return None
        return np.array([shift or (0.0,) * len(known) for shift in shifts])

    def less_offset(self, rows: np.ndarray, members: np.ndarray) -> np.ndarray:
        """Rows [n, ...] less their groups' offsets, by position of the group; -1 stands for any."""
        if self.offsets is None:
            return rows
        offsets = self.offsets.reshape(len(self), *rows.shape[1:])
        return less_each(rows, offsets, np.maximum(members, 0))

    def places(self, groups: Any, rows: int, bad: dict[int, str] | None = None) -> np.ndarray:
        """The position of each row's group among those that have a network, or -1, int32 [rows].

        Args:
            groups: each row's group, [rows].
            rows: how many there must be.
            bad: takes why rows have none, by position.

        Raises:
            InputError: if there are too few or too many.
        """
        names, positions = group_positions(groups, rows)
        known = np.array([*(self._place.get(name, -1) for name in names), -1], np.int32)
        places = known[positions]
        if bad is not None:
            for row in np.flatnonzero(places < 0).tolist():
                at = positions[row]
                why = self.why_not(names[at]) if at >= 0 else "is empty"
                bad.setdefault(row, f"{self.column} {why}")
        return places

    def members(self, groups: Any, rows: int) -> np.ndarray:
        """As `places`, where every row's group must have a network.

        Raises:
            InputError: naming the first row's group that has none.
        """
        bad: dict[int, str] = {}
        members = self.places(groups, rows, bad)
        if bad:
            row = min(bad)
            raise InputError(f"row {row}: {bad[row]}; allowed: one of {len(self)} groups that have")
        return members

    def place(self, name: str) -> int:
        """The position of a group.

        Raises:
            InputError: if it has no network, with the nearest name that has.
        """
        if name not in self._place:
            raise InputError(f"group {self.why_not(name)}; {suggest(name, self.names)}")
        return self._place[name]

    def why_not(self, name: str) -> str:
        """Why a group has no network, in words."""
        reason = self.skipped.get(name, "it was not in the training rows")
        return f"{name!r} has no detector ({reason})"

    def to_dict(self) -> dict[str, Any]:
        """The groups as a JSON-ready dict."""
        return {
            "column": self.column,
            "each": [group.to_dict() for group in self.each],
            "skipped": self.skipped,
        }

    @staticmethod
    def from_dict(written: Mapping[str, Any], features: int) -> Groups:
        """The groups that `to_dict` wrote; raises InputError where they aren't."""
        each = tuple(Group.from_dict(group, features) for group in written["each"])
        if not 1 <= len(each) <= MOST_GROUPS:
            raise InputError(f"groups are {len(each)}; allowed: 1 to {MOST_GROUPS}")
        return Groups(
            column=str(written["column"]),
            each=each,
            skipped={str(name): str(why) for name, why in written["skipped"].items()},
        )


def without_groups(x: Any, groups: Any) -> tuple[Any, Any]:
    """Rows without the column that names their groups, and each row's group.

    Args:
        x: rows, as a detector takes them.
        groups: each row's group, [n]; or the name of the column of `x` that holds it.

    Raises:
        InputError: if a name is given and there is no such column, or groups are in another order
            than rows by their index.
    """
    if not isinstance(groups, str):
        check_order(x, groups, "rows and groups")
        return x, groups
    table = as_table(x)
    if table is None:
        raise InputError(
            f"groups is {groups!r} and the rows have no columns with names; "
            "allowed: each row's group, [n], or rows with named columns"
        )
    if groups not in table.column_names:
        raise InputError(f"groups is {groups!r}; {suggest(groups, table.column_names)}")
    column = table.column(groups).combine_chunks()
    return table.drop_columns([groups]), column.to_numpy(zero_copy_only=False)


def provenance_of(group: Group, of_all: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """What made one group's network; what is known only of all groups says so.

    Args:
        group: whose.
        of_all: the provenance of all groups.
        config: their settings.
    """
    shared = {"data", "training_rows", "train_seconds", "epochs_run"}
    own = {name: fact for name, fact in of_all.items() if name not in {*shared, "alarms"}}
    alarms = list(map(operator.attrgetter("sentence"), group.alarms))
    held = 0 if group.folds else held_out(group.rows, config.train.validation_fraction)
    return {
        **own,
        "group": group.name,
        "training_rows": group.rows - held,
        **({"folds": group.folds} if group.folds else {}),
        "best_epoch": group.best_epoch,
        **({"alarms": alarms} if alarms else {}),
        "of_all_groups": {name: of_all[name] for name in sorted(shared & set(of_all))},
    }


def unit_of(history: Sequence[Mapping[str, Any]]) -> str:
    """What a training is counted in: "step", where its history says, or "epoch"."""
    return "step" if history and "step" in history[0] else "epoch"


def spread_of_losses(histories: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Quantiles over groups of their losses in every epoch, or in `MOST_EPOCHS` even ones.

    A group that stopped early counts with its last losses in the epochs after that; otherwise
    the later quantiles would be those of the groups that took longest.

    Args:
        histories: of every group, as `TrainedMember.history`.

    Returns:
        A dict an epoch: "epoch"; "step", the last one in it, where steps are counted; "groups",
        how many still trained; and of "loss" and "validation_loss", where there are any, the
        quantiles `QUANTILES`.
    """
    histories = [history for history in histories if history]
    if not histories:
        return []
    lengths = np.array([len(history) for history in histories])
    last = int(lengths.max())
    # Epochs after a group's last one take its last.
    places = np.minimum(np.arange(last), lengths[:, None] - 1)
    losses = {}
    for name in LOSSES:
        if all(name in history[0] for history in histories):
            losses_of = np.full((len(histories), last), np.nan)
            for at, history in enumerate(histories):
                losses_of[at, : len(history)] = [row[name] for row in history]
            losses[name] = np.quantile(
                np.take_along_axis(losses_of, places, axis=1), QUANTILES, axis=0
            )
    longest = histories[int(lengths.argmax())]
    kept = np.unique(np.linspace(0, last - 1, min(last, MOST_EPOCHS)).round().astype(int))
    return [
        {
            "epoch": int(epoch) + 1,
            **({"step": longest[epoch]["step"]} if "step" in longest[epoch] else {}),
            "groups": int((lengths > epoch).sum()),
            **{name: quantiles[:, epoch].tolist() for name, quantiles in losses.items()},
        }
        for epoch in kept
    ]
