"""A network on devices: compiled programs over any rows, in batches and tiles that fit."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from aejax.config import Combine, Config, InputError
from aejax.config.scores import score_object
from aejax.core import mesh, steps
from aejax.core.scaling import Scaler
from aejax.data.offsets import centred
from aejax.data.schema import Schema
from aejax.detection.rows import map_batches
from aejax.models.backend import transfers_allowed
from aejax.models.build import build
from aejax.models.heads import heads_of

# Rows in a tile: below this, fetching a member's parameters costs more than using them; above,
# a tile of a narrow model leaves nothing to gain.
LEAST_TILE, MOST_TILE = 8, 512
# Dispatched and not yet read.
AHEAD = 4
MOST_BATCH_ROWS = 1 << 14
# Few rows get a batch of their own, a program more to compile, at most four: a single row took
# 18 ms in a batch of 4,096 (benchmarks/README.md, "Few rows").
FEWER, FEWEST_BATCH_ROWS = 8, 32
# An accelerator keeps nothing in a cache that a batch could leave, and starts a program in the
# time that it scores some thousand rows: on an H100 65,536 rows of 784 values score 2.2 times as
# fast as 4,096 (benchmarks/results/device_h100.md).
ACCELERATOR_VALUES, MOST_ACCELERATOR_ROWS = 1 << 28, 1 << 16
logger = logging.getLogger(__name__)


def tile_rows(members: np.ndarray) -> int:
    """Rows in a tile, a power of two: about half of what a group has here.

    So a quarter of the places at most are padding, for groups of one size, and few programs
    are compiled. It depends on the rows of one call only.

    Args:
        members: int32 [n], each row's group; -1 for none.
    """
    known = members[members >= 0]
    groups = max(len(np.unique(known)), 1)
    half = max(len(known) // groups // 2, 1)
    return min(MOST_TILE, max(LEAST_TILE, 1 << (half.bit_length() - 1)))


def pack(members: np.ndarray, tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Places for rows in tiles that hold rows of one group each.

    Args:
        members: int32 [n], each row's group; rows of -1 get no place.
        tile: rows in a tile.

    Returns:
        Which row is where, int64 [tiles, tile], -1 for padding; each tile's group, int32 [tiles].
    """
    order = np.argsort(members, kind="stable")
    order = order[np.searchsorted(members[order], 0) :]
    groups, first, counts = np.unique(members[order], return_index=True, return_counts=True)
    tiles_of = -(-counts // tile)
    starts = np.cumsum(tiles_of) - tiles_of
    rank = np.arange(len(order)) - np.repeat(first, counts)
    placed = np.full(int(tiles_of.sum()) * tile, -1, np.int64)
    placed[np.repeat(starts * tile, counts) + rank] = order
    return placed.reshape(-1, tile), np.repeat(groups, tiles_of).astype(np.int32)


def map_tiles(
    functions: Mapping[jax.Device, Callable[[Any, Any], Any]],
    x: np.ndarray,
    members: np.ndarray,
    *,
    batch_size: int,
    dtype: str,
) -> list[np.ndarray]:
    """Apply a compiled function to rows in tiles, dispatching ahead.

    Args:
        functions: by the device that each computes on, which take turns: tiles [K, T, ...] and
            their groups int32 [K] -> an array [K, T, ...] or a tuple of them.
        x: rows, [n, ...].
        members: int32 [n], each row's group; -1 for none.
        batch_size: rows in all tiles of one call of the function, about.
        dtype: of the tiles.

    Returns:
        One array [n, ...] for each of the function's; NaN, or 0, in rows without a group.
    """
    tile = min(tile_rows(members), batch_size)
    at_once = max(1, batch_size // tile)
    places, groups = pack(members, tile)
    # An empty input still runs one batch of padding, so that results have their shapes.
    count = max(1, -(-len(places) // at_once))
    padding = count * at_once - len(places)
    places = np.concatenate([places, np.full((padding, tile), -1)])
    groups = np.concatenate([groups, np.zeros(padding, np.int32)])
    pending: deque[tuple[np.ndarray, Any]] = deque()
    out: list[np.ndarray] = []

    def read() -> None:
        placed, results = pending.popleft()
        real = placed >= 0
        for index, result in enumerate(jax.device_get(results)):
            if len(out) <= index:
                empty = np.nan if result.dtype.kind == "f" else 0
                out.append(np.full((len(x), *result.shape[2:]), empty, result.dtype))
            out[index][placed[real]] = result[real]

    turns = itertools.cycle(functions.items())
    for first in range(0, len(places), at_once):
        placed = places[first : first + at_once]
        with np.errstate(over="ignore"):
            rows = (
                x[np.maximum(placed, 0)].astype(dtype, copy=False)
                if len(x)
                else np.zeros((at_once, tile, *x.shape[1:]), dtype)
            )
        device, function = next(turns)
        results = function(*mesh.on_device(device, (rows, groups[first : first + at_once])))
        pending.append((placed, results if isinstance(results, tuple) else (results,)))
        if len(pending) > AHEAD * len(functions):
            read()
    while pending:
        read()
    return out


def batch_size_for(rows: int, schema: Schema, config: Config) -> int:
    """Rows in a batch where only so many rows are there."""
    return fitting_batch_size(rows, default_batch_size(schema, config))


def default_batch_size(schema: Schema, config: Config) -> int:
    """Rows in a scoring batch when nothing is asked for: a power of two, at least 64.

    Args:
        schema: of the rows.
        config: whose model's widest layer decides how many rows stay in cache, and its score.
    """
    outputs = sum(head.outputs for head in heads_of(schema) or ())
    widest = config.model.widest(max(schema.features, outputs))
    most = min(MOST_BATCH_ROWS, config.model.batch_values(widest) // widest)
    on_cpu = jax.default_backend() == "cpu"
    if not on_cpu:
        most = min(MOST_ACCELERATOR_ROWS, ACCELERATOR_VALUES // widest)
    if hasattr(score := score_object(config), "batch_rows"):
        most = min(most, score.batch_rows(schema.features, on_cpu))
    return 1 << (max(64, most).bit_length() - 1)


def batch_sizes(schema: Schema, config: Config) -> list[int]:
    """Every size that `batch_size_for` gives, from the smallest."""
    sizes = [default_batch_size(schema, config)]
    while sizes[0] // FEWER >= FEWEST_BATCH_ROWS:
        sizes.insert(0, sizes[0] // FEWER)
    return [1, sizes[0] // FEWER, *sizes]


def fitting_batch_size(rows: int, most: int) -> int:
    """Rows in a batch where only so many are there: few shapes, and none mostly padding.

    Args:
        rows: how many there are.
        most: rows in a batch where there is no end of them.

    Returns:
        The largest of `most`, an eighth of it, an eighth of that and so on that the rows fill;
        where they fill none, the last that is at least 32, or an eighth of that one where all
        of them go into it; 1 of one row.

    Example:
        >>> [fitting_batch_size(rows, 16_384) for rows in (1, 2, 20, 300, 5_000, 100_000)]
        [1, 4, 32, 256, 2048, 16384]
    """
    if rows == 1:
        # What is scored as it comes: a batch of four takes half as long again, or more.
        return 1
    size = most
    while size > rows and size // FEWER >= FEWEST_BATCH_ROWS:
        size //= FEWER
    # Of so few rows the calls cost more than the padding: they go into one.
    return size // FEWER if rows <= size // FEWER else size


class BatchLimit:
    """The most rows of a batch that a device was seen to hold.

    Attributes:
        rows: the limit; None while nothing failed. It is kept: later calls don't try again
            what has failed.
    """

    def __init__(self) -> None:
        self.rows: int | None = None

    def of(self, batch_size: int) -> int:
        """Rows in a batch where `batch_size` are asked for."""
        return batch_size if self.rows is None else min(batch_size, self.rows)

    def halve(self, batch_size: int, error: Exception) -> None:
        """Lower the limit to half of a batch that failed, where memory was too small for it.

        A process that shares its programs with others doesn't halve, because all must run the
        same one.

        Args:
            batch_size: rows that were tried.
            error: what the device said of them.

        Raises:
            InputError: if not even one row fits.
            JaxRuntimeError: what else the device says; of several processes, this too.
        """
        if not is_out_of_memory(error) or jax.process_count() > 1:
            raise error
        if batch_size == 1:
            raise InputError(
                "a batch of 1 row doesn't fit into the device's memory; "
                "allowed: a device with more, or a smaller model"
            ) from error
        self.rows = batch_size // 2
        logger.warning(
            "aejax: warning: batches of %d rows don't fit into the device's memory; "
            "going on with %d",
            batch_size,
            self.rows,
        )


def is_out_of_memory(error: Exception) -> bool:
    """Whether XLA says that the device's memory is exhausted."""
    return "RESOURCE_EXHAUSTED" in str(error)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlacedModel:
    """What a detector's methods run: its network, with copies of its arrays where they are needed.

    Attributes:
        config: all settings.
        schema: of the rows.
        scaler: fitted on training rows.
        variables: parameters, and batch statistics where the network has any.
        combine: how an ensemble's members' scores become one; None where none are combined.
        devices: how many of this process's devices share the rows, each a batch of its own;
            None takes all, and one for fewer rows than a batch.
        parted: what makes of it several networks, of which each row has one: "groups"; or None.
    """

    config: Config
    schema: Schema
    scaler: Scaler
    variables: dict[str, Any]
    combine: Combine | None
    devices: int | None
    parted: str | None = None

    @functools.cached_property
    def scoring(self) -> steps.Scorer:
        """The static part of the scoring program."""
        model = build(self.config.model, self.schema, precision=self.config.products)
        return steps.Scorer(
            model=model,
            error=self.config.error,
            score=score_object(self.config),
            combine=self.combine,
        )

    @functools.cached_property
    def _most_rows(self) -> int:
        return default_batch_size(self.schema, self.config)

    @functools.cached_property
    def batch_limit(self) -> BatchLimit:
        """What is known of how large a batch the device holds."""
        return BatchLimit()

    @functools.cached_property
    def _copies(self) -> dict[Any, tuple[dict[str, Any], Scaler]]:
        return {}

    @functools.cached_property
    def _functions(self) -> dict[Any, Callable[..., Any]]:
        return {}

    def arrays_on(self, place: mesh.Placement | jax.Device) -> tuple[dict[str, Any], Scaler]:
        """Variables and scaler on devices; copied there once."""
        shared = isinstance(place, mesh.Placement)
        known = place.devices if shared else place
        if known not in self._copies:
            arrays = (self.variables, self.scaler)
            self._copies[known] = (
                place.everywhere(arrays) if shared else mesh.on_device(place, arrays)
            )
        return self._copies[known]

    def run(
        self,
        program: steps.Compiled,
        rows: np.ndarray,
        batch_size: int | None,
        members: np.ndarray | None = None,
        **how: Any,
    ) -> list[np.ndarray]:
        """What a compiled program gives for all rows.

        Args:
            program: of scorer, variables, scaler and a batch; gives an array [B, ...] or a
                tuple of them. `compiled_score_columns` gets batches [features, B].
            rows: [n, ...], as the schema says.
            batch_size: rows in a batch; None takes what suits the network and the number of rows.
            members: int32 [n], the position of each row's own network along the leading axis of
                the arrays, -1 for none; None where all rows have the same.
            how: what else the program takes, by keyword.

        Returns:
            One array [n, ...] for each of the program's.

        Raises:
            InputError: if `batch_size` is below 1, or not even one row fits into the device.
        """
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; allowed: at least 1")
        most = batch_size or self._most_rows
        few = self.devices is None and len(rows) <= most
        batch_size = batch_size or fitting_batch_size(len(rows), most)
        dtype = self.schema.device_dtype
        by_column = program is steps.compiled_score_columns
        while True:
            size = self.batch_limit.of(batch_size)
            try:
                if members is not None:
                    functions = self._of_tiles(program, 1 if few else self.devices, how)
                    return map_tiles(functions, rows, members, batch_size=size, dtype=dtype)
                place = mesh.ONE_DEVICE if few else mesh.on_devices(self.devices)
                function = self._on(program, place)
                function = functools.partial(function, **how) if how else function
                return map_batches(function, rows, size, dtype, place, by_column=by_column)
            except jax.errors.JaxRuntimeError as error:
                self.batch_limit.halve(size, error)
            # Out here the error is gone, and with it what its frames kept on the device.

    def _on(self, program: steps.Compiled, place: mesh.Placement) -> Callable[..., Any]:
        key = program, place.devices
        if key not in self._functions:
            self._functions[key] = program.on(self.scoring, *self.arrays_on(place))
        return self._functions[key]

    def _of_tiles(
        self, program: steps.Compiled, devices: int | None, how: dict[str, Any]
    ) -> dict[jax.Device, Any]:
        wide = jax.default_backend() != "cpu" and self.scoring.maps
        return {
            device: functools.partial(
                program.of_tiles, self.scoring, *self.arrays_on(device), side_by_side=wide, **how
            )
            for device in mesh.local_devices(devices)
        }

    @property
    def kind(self) -> str:
        """What the detector is, in words."""
        if self.parted is not None:
            return "one of groups"
        return "a single model" if self.combine is None else "an ensemble"

    def require(self, method: str, *, allowed: str) -> None:
        """Refuse a method of another kind of detector.

        Args:
            method: its name.
            allowed: "an ensemble", "a single model", or "no ensemble".
        """
        wrong = self.combine is not None if allowed == "no ensemble" else self.kind != allowed
        if wrong:
            allowed = "a single model or groups" if allowed == "no ensemble" else allowed
            own = "; a group's own is member(NAME)" if self.parted is not None else ""
            raise InputError(f"{method}: the detector is {self.kind}; allowed: {allowed}{own}")

    def require_reconstructions(self, method: str) -> None:
        """Refuse a method that needs reconstructions where the network gives none."""
        if not self.scoring.reconstructs:
            raise InputError(
                f"{method}: a {type(self.config.model).__name__} model gives no reconstructions; "
                "allowed: autoencoders"
            )


def prepared_scorer(model: PlacedModel, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function of rows [batch, ...] that gives their scores; see `Detector.scorer`."""
    if model.parted is not None:
        raise InputError(
            "scorer: the detector is one of groups; allowed: a single model or an ensemble; a "
            "group's own is member(NAME).scorer()"
        )
    if batch < 1:
        raise InputError(f"batch is {batch}; allowed: at least 1")
    schema = model.schema
    shape, dtype = (batch, *schema.shape), np.dtype(schema.device_dtype)
    taken = dtype if schema.offset is None else np.dtype("float64")
    program = steps.compiled_score.on(model.scoring, *model.arrays_on(mesh.ONE_DEVICE))
    with transfers_allowed():
        # Compiles it.
        program(np.zeros(shape, dtype))

    def score(rows: np.ndarray) -> np.ndarray:
        if rows.shape != shape or rows.dtype != taken:
            raise InputError(
                f"rows are {rows.dtype}{list(rows.shape)}; allowed: {taken}{list(shape)}"
            )
        if taken is not dtype:
            rows = centred(rows, schema)
        with transfers_allowed():
            return np.array(program(rows))

    return score
