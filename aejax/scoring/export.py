"""Programs that outlive this package: lowered to StableHLO, and read back with suspicion.

The only file that uses `jax.export`. What it lowers is `core.steps.score_rows`, the function
that a detector compiles, with one symbol for the number of rows and both forms of what
differs by platform.

Parameters and scaler are arguments of the program, not constants in it: the compiler sees
what it sees in a live detector and makes the same instructions of it (constants would be
folded, with other last digits), compiling takes the same time however large the model is,
and the arrays stay in a file that NumPy reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import export

from aejax.config import InputError
from aejax.core import steps
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema

PLATFORMS = ("cpu", "cuda", "tpu")
ROWS = "rows"
# What JAX itself adds: the check of a symbolic size, and its random bits on GPUs. Any other
# target of a custom call is native code, or a Python function, that a file could reach.
_KNOWN_CALLS = frozenset({"shape_assertion", "cu_threefry2x32_ffi"})
_CALL = re.compile(r"\bcustom_call\b(?: @([\w.]+)\()?")
_OUTSIDE = re.compile(r"\b(infeed|outfeed|send|recv)\b")


def arrays_of(scaler: Scaler, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Scaler and variables as one flat dict: "variables/params/encoder_0/kernel" and so on."""
    leaves = jax.tree_util.tree_leaves_with_path({"scaler": scaler, "variables": dict(variables)})
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def symbolic_rows() -> Any:
    """A symbol for any number of rows, to be traced in the place of a size."""
    (size,) = export.symbolic_shape(ROWS)
    return size


def lower(
    scorer: steps.Scorer,
    scaler: Scaler,
    variables: Mapping[str, Any],
    schema: Schema,
    *,
    top: int | None = None,
    platforms: tuple[str, ...] = PLATFORMS,
) -> bytes:
    """The program (arrays, rows [rows, ...]) -> scores float32 [rows], serialised.

    Args:
        scorer: the static part of the detector's program.
        scaler: of the detector.
        variables: of the detector.
        schema: of the rows.
        top: None for scores alone. Otherwise the program gives scores, flat positions of this
            many features int32 [rows, top], and their errors float32 [rows, top].
        platforms: that it is lowered for.
    """
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arrays_of(scaler, variables)
    )
    leaves, structure = jax.tree.flatten((scaler, dict(variables)))
    names = list(arrays_of(scaler, variables))
    assert len(names) == len(leaves)

    def program(arrays: dict[str, jax.Array], rows: jax.Array) -> Any:
        scaler, variables = jax.tree.unflatten(structure, [arrays[name] for name in names])
        if top is None:
            return steps.score_rows(scorer, variables, scaler, rows)
        return steps.explain_rows(scorer, variables, scaler, rows, top)

    rows = jax.ShapeDtypeStruct((symbolic_rows(), *schema.shape), schema.device_dtype)
    lowered = export.export(steps.Compiled(program).jitted(scorer), platforms=platforms)
    return bytes(lowered(like, rows).serialize())


def read(
    content: bytes, schema: Schema, *, outputs: int, where: object
) -> tuple[Callable[..., Any], dict[str, jax.ShapeDtypeStruct]]:
    """A serialised program, and the arrays that it takes.

    It is read, not run: custom calls (native code and Python functions that a program can
    name) and channels out of it are refused, whoever wrote the file.

    Args:
        content: what `lower` gave.
        schema: of the rows that it has to take.
        outputs: 1, or 3 for a program that explains.
        where: the file, for messages.

    Returns:
        What takes arrays and rows, to be compiled; and name -> shape and type of the arrays.

    Raises:
        InputError: if it is no such program, or one that this release of JAX can't read.
    """
    try:
        read = export.deserialize(bytearray(content))
        text = read.mlir_module()
    # The reader's errors have no common type.
    except Exception as error:
        raise InputError(
            f"{where} is no program that JAX {jax.__version__} reads: {_line(error)}"
        ) from None
    for call in _CALL.finditer(text):
        if call.group(1) not in _KNOWN_CALLS:
            raise InputError(
                f"{where} calls {call.group(1) or 'code'} outside of it; "
                f"allowed: {', '.join(sorted(_KNOWN_CALLS))}"
            )
    if outside := _OUTSIDE.search(text):
        raise InputError(f"{where} has the operation {outside.group(1)}; allowed: none that waits")
    try:
        (arrays, rows), named = jax.tree.unflatten(read.in_tree, read.in_avals)
        fits = (
            not named
            and all(isinstance(name, str) for name in arrays)
            and export.is_symbolic_dim(rows.shape[0])
            and rows.shape[1:] == schema.shape
            and rows.dtype == schema.device_dtype
            and len(read.out_avals) == outputs
            and read.nr_devices == 1
            and not (read.ordered_effects or read.unordered_effects)
            and all(type(size) is int for array in arrays.values() for size in array.shape)
        )
        like = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in arrays.items()}
    except (AttributeError, IndexError, TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"{where}: the program does not take (arrays, rows) as export.json says; "
            f"allowed: rows {schema.device_dtype}[{ROWS}, {', '.join(map(str, schema.shape))}]"
        )
    return read.call, like


def _line(error: Exception) -> str:
    text = str(error).strip() or repr(error)
    return text.splitlines()[0][:200]
