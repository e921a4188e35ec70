"""What one row is: its shape, stored type, feature names and how a person would look at it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from aejax.config import InputError

RowKind = Literal["table", "series", "image"]
MAX_FEATURES = 1 << 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schema:
    """The shape and meaning of a row.

    Args:
        shape: shape of one row, without the batch axis: (features,), or (height, width, channels).
        dtype: NumPy name of the stored type: "float32" or "uint8".
        names: a name for every feature of a table, in order; None for images and series.
        kind: "table" (named columns), "series" (samples in time) or "image".
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    names: tuple[str, ...] | None = None
    kind: RowKind = "table"

    def __post_init__(self) -> None:
        sizes = all(isinstance(size, int) and size >= 1 for size in self.shape)
        if not self.shape or not sizes or self.features > MAX_FEATURES:
            raise InputError(
                f"Schema.shape is {self.shape!r}; "
                f"allowed: sizes of at least 1, at most {MAX_FEATURES} features"
            )
        if self.dtype not in ("float32", "uint8"):
            raise InputError(f"Schema.dtype is {self.dtype!r}; allowed: 'float32', 'uint8'")
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

    @property
    def features(self) -> int:
        """Number of values in a row."""
        return math.prod(self.shape)

    def feature_name(self, index: int) -> str:
        """Name of the feature at a flat index; positions stand in where there are no names."""
        if self.names is not None:
            return self.names[index]
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
        return {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "names": None if self.names is None else list(self.names),
            "kind": self.kind,
        }

    @staticmethod
    def from_dict(written: Mapping[str, Any]) -> Schema:
        """The schema that `to_dict` wrote; raises InputError where it isn't one."""
        try:
            names = written["names"]
            return Schema(
                shape=tuple(written["shape"]),
                dtype=str(written["dtype"]),
                names=None if names is None else tuple(map(str, names)),
                kind=written["kind"],
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"schema is {str(written)[:80]!r}; allowed: shape, dtype, names, kind ({error!r})"
            ) from None


def _unravel(index: int, shape: tuple[int, ...]) -> tuple[int, int, int]:
    _, width, channels = shape
    return index // (width * channels), index // channels % width, index % channels
