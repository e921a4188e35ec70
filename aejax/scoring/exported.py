"""An export, read back: it scores files as the detector does that it was made of."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from aejax import config as settings
from aejax.config import Config, InputError, Precision
from aejax.core import programs as lowered
from aejax.core import steps
from aejax.data.packed import unpack
from aejax.data.schema import Schema
from aejax.detection.batch_sizes import batch_size_for
from aejax.detection.memory import BatchLimit
from aejax.detection.rows import as_rows, check_finite, map_batches
from aejax.detection.threshold import Threshold
from aejax.scoring import export_folder

MOST_TOP_FEATURES = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A program that was read from a file, in the place of a `steps.Scorer`.

    Attributes:
        call: takes arrays and rows.
        precision: of its products, which decides what the compiler is told.
    """

    call: Callable[..., Any]
    precision: Precision

    @property
    def model(self) -> Program:
        """What has the precision, as in a scorer."""
        return self


def _call(program: Program, arrays: Mapping[str, Any], rows: jax.Array) -> Any:
    return program.call(arrays, rows)


# Compiled with the options of a live detector: with the same instructions, scores have the
# same bits. Options don't travel in an export.
compiled_call = steps.Compiled(_call, static_argnames="program")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ExportedScorer:
    """What scores with an export's programs and arrays.

    Attributes:
        config: all settings of the detector.
        schema: the rows it takes.
        threshold: above which a row is flagged, or None.
        thresholds: others that are kept by name.
        provenance: what made the detector.
        fingerprint: SHA-256 of what decides a score: programs, arrays and the schema's offset.
        described: all of `export.json`.
        arrays: scaler and parameters.
        programs: "score", and "explain" where the export has it.
        top_features: most features that it can name for a row; 0 without "explain".
    """

    config: Config
    schema: Schema
    threshold: Threshold | None
    thresholds: dict[str, Threshold]
    provenance: dict[str, Any]
    fingerprint: str
    described: dict[str, Any]
    arrays: dict[str, np.ndarray]
    programs: dict[str, Program]
    top_features: int

    @functools.cached_property
    def _placed(self) -> dict[str, Any]:
        placed: dict[str, Any] = jax.device_put(self.arrays)
        return placed

    @functools.cached_property
    def batch_limit(self) -> BatchLimit:
        """What is known of how large a batch the device holds."""
        return BatchLimit()

    def score(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Score rows as `Detector.score` does: float32 [n]; larger is more anomalous.

        Raises:
            InputError: if rows don't fit the schema, or one holds NaN or infinity.
        """
        rows, _ = as_rows(x, self.schema)
        check_finite(rows, self.schema)
        scores = self.score_rows(rows, batch_size=batch_size)
        wrong = np.flatnonzero(~np.isfinite(scores))
        if len(wrong):
            raise InputError(
                f"row {wrong[0]} has score {scores[wrong[0]]}; allowed: rows within float32's range"
            )
        return scores

    def predict(self, x: Any, *, batch_size: int | None = None) -> np.ndarray:
        """Which rows are flagged: bool [n], True where the score is above the threshold."""
        if self.threshold is None:
            raise InputError("the export has no threshold; allowed: calibrate before exporting")
        return self.threshold.flags(self.score(x, batch_size=batch_size))

    def score_rows(self, rows: np.ndarray, *, batch_size: int | None = None) -> np.ndarray:
        """Score rows less the schema's offset, as programs take them; those with NaN get NaN."""
        (scores,) = self._map("score", rows, batch_size)
        return scores

    def explain_rows(
        self, rows: np.ndarray, *, top: int, batch_size: int | None = None
    ) -> list[np.ndarray]:
        """Scores float32 [n], feature positions int32 [n, top], their errors float32 [n, top]."""
        if not 1 <= top <= self.top_features:
            allowed = f"1 to {self.top_features}, as exported" if self.top_features else "none"
            raise InputError(f"top is {top} features; allowed: {allowed} (export with more)")
        scores, features, errors = self._map("explain", rows, batch_size)
        return [scores, features[:, :top], errors[:, :top]]

    def _map(self, name: str, rows: np.ndarray, asked: int | None) -> list[np.ndarray]:
        if asked is not None and asked < 1:
            raise InputError(f"batch_size is {asked}; allowed: at least 1")
        program = self.programs[name]

        def call(batch: Any) -> tuple[Any, ...]:
            found = compiled_call(program, self._placed, batch)
            return tuple(found) if isinstance(found, (tuple, list)) else (found,)

        size = asked or batch_size_for(len(rows), self.schema, self.config)
        while True:
            fitting = self.batch_limit.of(size)
            try:
                return map_batches(call, rows, fitting, self.schema.device_dtype)
            except jax.errors.JaxRuntimeError as error:
                self.batch_limit.halve(fitting, error)


def load_export(folder: str | Path) -> ExportedScorer:
    """What `aejax export` wrote, as something that scores.

    Nothing of the folder is run but the programs, which can compute and nothing else.

    Args:
        folder: of an export to StableHLO.

    Raises:
        InputError: if there is none, or it is damaged, changed, of a newer format, or not
            for the device at hand.
    """
    folder = Path(folder)
    described = export_folder.read_description(folder)
    where = folder / export_folder.NAME
    if described.get("kind") != "stablehlo":
        raise InputError(
            f"{where}: kind is {str(described.get('kind'))[:40]!r}; allowed: 'stablehlo' "
            "(an ONNX model is scored by ONNX runtimes)"
        )
    fields = _fields(described, where)
    platform = jax.default_backend()
    allowed = ("cuda", "rocm") if platform == "gpu" else (platform,)
    if not set(allowed) & set(described["platforms"]):
        raise InputError(f"{where}: platforms are {described['platforms']}; found: {platform}")
    names = [export_folder.SCORE, export_folder.ARRAYS]
    if fields["top_features"]:
        names.append(export_folder.EXPLAIN)
    if missing := [name for name in names if name not in described["files"]]:
        raise InputError(f"{where}: files has no {missing[0]}")
    contents = export_folder.read_files(folder, described)
    programs, like = {}, None
    for name, outputs in ((export_folder.SCORE, 1), (export_folder.EXPLAIN, 3)):
        if name not in names:
            continue
        call, needed = lowered.read(
            contents[name],
            fields["schema"].shape,
            fields["schema"].device_dtype,
            outputs=outputs,
            where=folder / name,
        )
        if like is not None and needed != like:
            raise InputError(f"{folder / name} takes other arrays than {export_folder.SCORE}")
        like = needed
        programs[name.partition(".")[0]] = Program(call, fields["config"].products)
    assert like is not None
    packed = io.BytesIO(contents[export_folder.ARRAYS])
    arrays = unpack(packed, like, folder / export_folder.ARRAYS)
    decides = [described["files"][name]["sha256"] for name in sorted(names)]
    if fields["schema"].offset is not None:
        decides.append(str(fields["schema"].offset))
    fingerprint = hashlib.sha256(" ".join(decides).encode()).hexdigest()
    return ExportedScorer(
        **fields, fingerprint=fingerprint, described=described, arrays=arrays, programs=programs
    )


def _fields(described: Mapping[str, Any], where: Path) -> dict[str, Any]:
    try:
        threshold, top = described["threshold"], described["top_features"]
        schema = Schema.from_dict(described["schema"])
        if type(top) is not int or not 0 <= top <= min(schema.features, MOST_TOP_FEATURES):
            raise InputError(f"top_features is {top!r}; allowed: 0 to {schema.features}")
        if not isinstance(described["platforms"], list):
            raise InputError(f"platforms is {described['platforms']!r}; allowed: a list")
        return {
            "config": settings.from_dict(described["config"], Config),
            "schema": schema,
            "threshold": None if threshold is None else Threshold.from_dict(threshold),
            "thresholds": {
                name: Threshold.from_dict(kept) for name, kept in described["thresholds"].items()
            },
            "provenance": dict(described["provenance"]),
            "top_features": top,
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None
