"""What one row is: its shape, stored type, feature names and how a person would look at it."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args

from aejax.config import InputError, Window, from_dict, to_dict
from aejax.data.columns import Column, DateOrder

RowKind = Literal["table", "series", "image"]
MAX_FEATURES = 1 << 24


def check_once(names: Sequence[str], owner: str, needed: Collection[str] | None = None) -> None:
    """Refuse columns of one name: which of them is meant, nothing tells.

    Args:
        names: of columns.
        owner: what has them, and "has" or "have", for the message.
        needed: those that matter; None for all.

    Raises:
        InputError: naming the first.
    """
    if len(set(names)) == len(names):
        return
    for name, count in Counter(names).items():
        if count > 1 and (needed is None or name in needed):
            raise InputError(f"{owner} more than one column {name!r}; allowed: each name once")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
    """The shape and meaning of a row.

    Args:
        shape: shape of one row, without the batch axis: (features,), or (height, width, channels).
        dtype: NumPy name of the type in which rows are read and kept: "float32", "uint8", or
            "float64" where float32 would lose digits until an offset is subtracted.
        names: a name for every feature of a table, in order; None for images and series.
        kind: "table" (named columns), "series" (samples in time) or "image".
        columns: what each column of a mixed table is; None for rows of numbers without
            missing cells.
        dropped: of a table with names, the columns of the training rows that are no features,
            each with the reason; scoring passes them by.
        offset: what is subtracted of each feature, in float64, before rows become float32, flat;
            None where nothing is. See `aejax.data.offsets`.
        decimal: the decimal point of the text that the training rows were read from, for rows
            whose text doesn't tell: "." or ",".
        series: of windows, the series that they are cut from; None where a row is a row of the
            input.

    Example:
        >>> aejax.Schema(shape=(2,), names=("flow", "heat")).features
        2
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    names: tuple[str, ...] | None = None
    kind: RowKind = "table"
    # Not in `repr`, which is part of the fingerprints of detectors that have no such columns.
    columns: tuple[Column, ...] | None = dataclasses.field(default=None, repr=False)
    dropped: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)
    offset: tuple[float, ...] | None = dataclasses.field(default=None, repr=False)
    decimal: str = dataclasses.field(default=".", repr=False, compare=False)
    series: Series | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        sizes = all(isinstance(size, int) and size >= 1 for size in self.shape)
        if not self.shape or not sizes or self.features > MAX_FEATURES:
            raise InputError(
                f"Schema.shape is {self.shape!r}; "
                f"allowed: sizes of at least 1, at most {MAX_FEATURES} features"
            )
        if self.dtype not in ("float32", "uint8", "float64"):
            raise InputError(
                f"Schema.dtype is {self.dtype!r}; allowed: 'float32', 'uint8', 'float64'"
            )
        if self.kind not in ("table", "series", "image"):
            raise InputError(f"Schema.kind is {self.kind!r}; allowed: 'table', 'series', 'image'")
        if self.kind == "image" and len(self.shape) != 3:
            raise InputError(
                f"Schema.shape is {self.shape!r}; allowed for images: (height, width, channels)"
            )
        if self.names is not None and len(self.names) != self.features:
            raise InputError(
                f"Schema.names has {len(self.names)} names; "
                f"allowed: one for each of {self.features} features"
            )
        check_once(self.names or (), "Schema.names has")
        if self.columns is not None:
            self._check_columns(self.columns)
        if self.offset is not None:
            self._check_offset(self.offset)
        if self.series is not None:
            self._check_series(self.series)

    def _check_series(self, series: Series) -> None:
        shape = (series.window.length, series.points.features)
        if self.shape != shape or self.kind != "series":
            raise InputError(
                f"Schema.shape is {self.shape!r} and kind {self.kind!r}; "
                f"allowed with windows of these points: {shape!r}, 'series'"
            )

    def _check_offset(self, offset: tuple[float, ...]) -> None:
        if self.dtype != "float64":
            raise InputError(
                f"Schema.dtype is {self.dtype!r}; allowed with Schema.offset: 'float64'"
            )
        if len(offset) != self.features or not all(map(math.isfinite, offset)):
            raise InputError(
                f"Schema.offset has {len(offset)} numbers; "
                f"allowed: a finite one for each of {self.features} features"
            )

    def _check_columns(self, columns: tuple[Column, ...]) -> None:
        names = tuple(column.name for column in columns)
        if self.names != names or self.shape != (len(columns),):
            raise InputError(
                f"Schema.columns has {len(columns)} columns; "
                f"allowed: those of Schema.names, {self.features}"
            )
        if self.dtype == "uint8" or self.kind != "table":
            raise InputError(
                f"Schema.dtype is {self.dtype!r} and kind {self.kind!r}; "
                "allowed with columns: 'float32' or 'float64', 'table'"
            )

    @property
    def table(self) -> Schema:
        """What is read of files and frames: of windows their points, otherwise these rows."""
        return self if self.series is None else self.series.points

    @property
    def sources(self) -> tuple[str, ...] | None:
        """The columns of a file that the features are read from, once each; None without names."""
        if self.columns is None:
            return self.names
        return tuple(dict.fromkeys(column.source for column in self.columns))

    @property
    def device_dtype(self) -> str:
        """NumPy name of the type in which compiled programs take rows: "float32" or "uint8"."""
        return "float32" if self.dtype == "float64" else self.dtype

    @property
    def features(self) -> int:
        """Number of values in a row."""
        return math.prod(self.shape)

    def with_offset(self, offset: tuple[float, ...] | None) -> Schema:
        """The schema with another offset, and the type that goes with it."""
        dtype = self.device_dtype if offset is None else "float64"
        return dataclasses.replace(self, dtype=dtype, offset=offset)

    def feature_name(self, index: int) -> str:
        """Name of the feature at a flat index; positions stand in where there are no names."""
        if self.names is not None:
            return self.names[index]
        if self.series is not None:
            place, channel = divmod(index, self.series.points.features)
            name = self.series.points.feature_name(channel)
            return f"{name}[{place + 1 - self.shape[0]}]"
        if self.kind == "image":
            height, width, channel = _unravel(index, self.shape)
            return (
                f"pixel[{height},{width}]"
                if self.shape[-1] == 1
                else f"pixel[{height},{width},{channel}]"
            )
        return f"feature[{index}]" if self.kind == "table" else f"sample[{index}]"

    def to_dict(self) -> dict[str, Any]:
        """The schema as a JSON-ready dict."""
        written: dict[str, Any] = {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "names": None if self.names is None else list(self.names),
            "kind": self.kind,
        }
        if self.columns is not None:
            written["columns"] = [column.to_dict() for column in self.columns]
        if self.columns is not None or self.dropped:
            written["dropped"] = dict(self.dropped)
        if self.offset is not None:
            written["offset"] = list(self.offset)
        if self.decimal != ".":
            written["decimal"] = self.decimal
        if self.series is not None:
            written["series"] = self.series.to_dict()
        return written

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Schema:
        """The schema that `to_dict` wrote; raises InputError where it isn't one."""
        try:
            names, columns = written["names"], written.get("columns")
            offset = written.get("offset")
            return Schema(
                shape=tuple(written["shape"]),
                dtype=str(written["dtype"]),
                names=None if names is None else tuple(map(str, names)),
                kind=written["kind"],
                columns=None if columns is None else tuple(map(Column.from_dict, columns)),
                dropped=tuple(
                    (str(k), str(v)) for k, v in dict(written.get("dropped", {})).items()
                ),
                offset=None if offset is None else tuple(map(float, offset)),
                decimal="," if written.get("decimal") == "," else ".",
                series=None if (own := written.get("series")) is None else Series.from_dict(own),
            )
        except InputError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"schema is {str(written)[:80]!r}; allowed: shape, dtype, names, kind ({error!r})"
            ) from None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clock:
    """How the times of a series are written.

    Attributes:
        kind: "instant" (dates with a time zone), "local" (dates without one) or "number".
        order: of dates that are text, what comes first: "day", "month", or "" for the year.
    """

    kind: Literal["instant", "local", "number"]
    order: DateOrder = ""

    def __post_init__(self) -> None:
        if self.kind not in ("instant", "local", "number") or self.order not in get_args(DateOrder):
            raise InputError(
                f"Clock is {self.kind!r}, {self.order!r}; allowed: 'instant', 'local' or 'number', "
                "and '', 'day' or 'month'"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """What windows are cut from.

    Attributes:
        points: one point: a row of a table whose columns are channels.
        window: how they are cut; its length is settled.
        clock: how times are written; None without a column of times.
        step: the usual step from one point to the next, in nanoseconds, or in the unit of times
            that are numbers; None without times.
        period: points in a period of the training rows; None where none was looked for or seen.
    """

    points: Schema
    window: Window
    clock: Clock | None = None
    step: float | None = None
    period: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.window, Window) or self.window.length is None:
            raise InputError("Series.window has no length; allowed: a Window with one")
        if self.points.columns is not None or len(self.points.shape) != 1:
            raise InputError(
                f"Series.points has shape {self.points.shape!r}; allowed: columns of numbers"
            )
        if (self.window.time is None) != (self.clock is None):
            raise InputError(
                f"Series.window.time is {self.window.time!r}; allowed: a column with a clock"
            )

    @property
    def schema(self) -> Schema:
        """What a window is."""
        points, length = self.points, self.length
        return Schema(
            shape=(length, points.features),
            dtype=points.dtype,
            kind="series",
            offset=None if points.offset is None else points.offset * length,
            series=self,
        )

    @property
    def length(self) -> int:
        """Points in a window."""
        assert self.window.length is not None
        return self.window.length

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that say when a row is of and of which series."""
        return tuple(name for name in (self.window.time, self.window.series) if name is not None)

    @property
    def longest_step(self) -> float | None:
        """The longest step within a window; None without times."""
        return None if self.step is None else self.step * self.window.gap

    def to_dict(self) -> dict[str, Any]:
        """The series as a JSON-ready dict."""
        return {
            "points": self.points.to_dict(),
            "window": to_dict(self.window),
            "clock": None if self.clock is None else dataclasses.asdict(self.clock),
            "step": self.step,
            "period": self.period,
        }

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Series:
        """The series that `to_dict` wrote; raises InputError where it isn't one."""
        clock, step, period = written["clock"], written["step"], written["period"]
        return Series(
            points=Schema.from_dict(written["points"]),
            window=from_dict(written["window"], Window),
            clock=None if clock is None else Clock(**clock),
            step=None if step is None else float(step),
            period=None if period is None else int(period),
        )


def _unravel(index: int, shape: tuple[int, ...]) -> tuple[int, int, int]:
    _, width, channels = shape
    return index // (width * channels), index // channels % width, index % channels
