"""The systems that are measured, one file a library, each in the form its own users write.

An entry names where a system lives; nothing here imports a library. A library that isn't
installed fails in its worker's import, and is listed as missing.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a table, before it is measured.

    Attributes:
        name: of the row.
        library: what `--peers` picks it by.
        place: module of this package and class in it.
        precision: of the products; which limit of the machine holds for it.
        dtype: type in which rows are handed over.
        options: for the class.
    """

    name: str
    library: str
    place: str
    precision: Literal["float32", "bfloat16"] = "float32"
    dtype: Literal["float32", "uint8"] = "float32"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def _entry(name: str, place: str, **more: Any) -> Entry:
    settings = {key: more.pop(key) for key in ("precision", "dtype") if key in more}
    return Entry(name=name, library=name.partition("-")[0], place=place, options=more, **settings)


_AEJAX = "with_aejax:Scoring"
_TORCH = "with_torch:Scoring"
_KERAS = "with_keras:"
_SCORING = (
    _entry("aejax", _AEJAX),
    _entry("aejax-bfloat16", _AEJAX, precision="bfloat16"),
    _entry("aejax-uint8", _AEJAX, dtype="uint8"),
    _entry("aejax-bfloat16-uint8", _AEJAX, precision="bfloat16", dtype="uint8"),
    _entry("flax", "with_flax:Scoring"),
    _entry("flax-bfloat16", "with_flax:Scoring", precision="bfloat16"),
    _entry("numpy", "with_numpy:Scoring"),
    _entry("sklearn", "with_sklearn:Scoring"),
    _entry("pyod", "with_pyod:Scoring"),
    _entry("keras", _KERAS + "Scoring"),
    _entry("keras-xla", _KERAS + "Scoring", jit_compile=True),
    _entry("keras-function", _KERAS + "FunctionScoring"),
    _entry("torch", _TORCH),
    _entry("torch-bfloat16", _TORCH, precision="bfloat16"),
    _entry("torch-compile", _TORCH, compile=True),
    _entry("torch-compile-bfloat16", _TORCH, compile=True, precision="bfloat16"),
    _entry("onnxruntime", "with_onnxruntime:Scoring"),
)
_TRAINING = (
    _entry("aejax", "with_aejax:Fitting"),
    _entry("aejax-loop", "with_aejax:Training"),
    _entry("flax", "with_flax:Training"),
    _entry("sklearn", "with_sklearn:Training"),
    _entry("pyod", "with_pyod:Training"),
    _entry("keras", _KERAS + "Training"),
    _entry("keras-xla", _KERAS + "Training", jit_compile=True),
    _entry("torch", "with_torch:Training"),
    _entry("torch-compile", "with_torch:Training", compile=True),
)
SCORING = {entry.name: entry for entry in _SCORING}
TRAINING = {entry.name: entry for entry in _TRAINING}
_OF_ONE_ROW = ("aejax", "flax", "numpy", "torch", "onnxruntime")
LATENCY = {
    "aejax-scorer": _entry("aejax-scorer", "with_aejax:Prepared"),
    **{name: SCORING[name] for name in _OF_ONE_ROW},
}
SCORERS = {**SCORING, **LATENCY}
LIMITS = {
    "jax": _entry("jax", "with_flax:Limits"),
    "torch": _entry("torch", "with_torch:Limits"),
}
LIBRARIES = tuple(dict.fromkeys(e.library for e in (*_SCORING, *_TRAINING)))
