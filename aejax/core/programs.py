"""Programs that outlive this package: lowered to StableHLO, and read back with suspicion.

The only file that uses `jax.export`. What it lowers is `core.steps.score_rows`, the function
that a detector compiles, and what a network or a score of somebody's own computes, with one
symbol for the number of rows and both forms of what differs by platform.

Parameters and scaler are arguments of the program, not constants in it: the compiler sees
what it sees in a live detector and makes the same instructions of it (constants would be
folded, with other last digits), compiling takes the same time however large the model is,
and the arrays stay in a file that NumPy reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import export

from aejax.config import InputError
from aejax.config.own import Own
from aejax.core import steps
from aejax.core.scaling import Scaler
from aejax.core.score import learnt_of, score_scaled
from aejax.models.backend import check_own_process, default_settings, shapes_of
from aejax.models.network import KEPT_BESIDE, Network, Variables

PLATFORMS = ("cpu", "cuda", "tpu")
ROWS = "rows"
# What JAX itself adds: the check of a symbolic size, and its random bits on GPUs. Any other
# target of a custom call is native code, or a Python function, that a file could reach.
_KNOWN_CALLS = frozenset({"shape_assertion", "cu_threefry2x32_ffi"})
_CALL = re.compile(r"\bcustom_call\b(?: @([\w.]+)\()?")
_OUTSIDE = re.compile(r"\b(infeed|outfeed|send|recv)\b")


def _arrays_of(scaler: Scaler, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Scaler and variables as one flat dict: "variables/params/encoder_0/kernel" and so on."""
    leaves = jax.tree_util.tree_leaves_with_path({"scaler": scaler, "variables": dict(variables)})
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def symbolic_rows() -> Any:
    """A symbol for any number of rows, to be traced in the place of a size."""
    (size,) = export.symbolic_shape(ROWS)
    return size


def lower_score(
    scorer: steps.Scorer,
    scaler: Scaler,
    variables: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: str,
    *,
    platforms: tuple[str, ...] = PLATFORMS,
) -> bytes:
    """The program (arrays, rows [rows, ...]) -> scores float32 [rows], serialised.

    Args:
        scorer: the static part of the detector's program.
        scaler: of the detector.
        variables: of the detector.
        shape: of one row.
        dtype: of the rows.
        platforms: that it is lowered for.

    Raises:
        Exception: whatever JAX says of a part of somebody's own that can't be exported.
    """

    def program(trees: tuple[Scaler, dict[str, Any]], rows: jax.Array) -> Any:
        scaler, variables = trees
        return steps.score_rows(scorer, variables, scaler, rows)

    arrays = _arrays_of(scaler, variables)
    structure = jax.tree.structure((scaler, dict(variables)))
    return _lowered(program, scorer, arrays, structure, shape, dtype, platforms)


def _lowered(
    function: Callable[[Any, jax.Array], Any],
    scorer: Any,
    arrays: Mapping[str, Any],
    structure: Any,
    shape: tuple[int, ...],
    dtype: str,
    platforms: tuple[str, ...],
) -> bytes:
    """A function of a tree and of rows, as a program of (arrays by name, rows [rows, ...])."""
    names = list(arrays)
    assert len(names) == structure.num_leaves

    def program(arrays: dict[str, jax.Array], rows: jax.Array) -> Any:
        return function(jax.tree.unflatten(structure, [arrays[name] for name in names]), rows)

    like = {n: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for n, leaf in arrays.items()}
    rows = jax.ShapeDtypeStruct((symbolic_rows(), *shape), dtype)
    with default_settings(), _without_locations():
        lowered = export.export(steps.Compiled(program).jitted(scorer), platforms=platforms)
        return bytes(lowered(like, rows).serialize())


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
    """No names of source files in programs: they say nothing of what is computed."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def lower_network(
    network: Network, variables: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, bytes]:
    """What a network computes when it scores, as programs: "apply", "encode" and "decode".

    Each takes (arrays by name, rows or latent values float32 [rows, ...]).

    Args:
        network: somebody's own.
        variables: one member's, as the network takes them.
        shape: of one row.

    Raises:
        Exception: whatever JAX says of a network that can't be exported.
    """
    own = own_variables(variables)
    arrays, structure = _named(own), jax.tree.structure(own)

    def lowered(function: Callable[..., Any], shape: tuple[int, ...]) -> bytes:
        return _lowered(function, None, arrays, structure, shape, "float32", PLATFORMS)

    programs = {"apply": lowered(network.apply, shape)}
    if not network.has("encode"):
        return programs
    programs["encode"] = lowered(functools.partial(network.call, "encode"), shape)
    if network.has("decode"):
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), own)
        rows = jax.ShapeDtypeStruct((1, *shape), "float32")
        latent = shapes_of(functools.partial(network.call, "encode"), like, rows)
        decode = functools.partial(network.call, "decode")
        programs["decode"] = lowered(decode, latent.shape[1:])
    return programs


def lower_own_score(
    scorer: steps.Scorer, variables: Mapping[str, Any], shape: tuple[int, ...]
) -> bytes:
    """What a score of somebody's own computes, as a program.

    It takes (arrays by name, scaled rows float32 [rows, ...]) and gives float32 [rows]; among the
    arrays are the network's variables and what the score learnt.

    Args:
        scorer: with the score.
        variables: one member's.
        shape: of one row.

    Raises:
        Exception: whatever JAX says of a score that can't be exported.
    """
    if hasattr(scorer.score, "shared"):
        raise ValueError("members share a part of it")
    tree = _of_score(variables, learnt_of(variables))

    def function(tree: dict[str, Any], x: jax.Array) -> jax.Array:
        return score_scaled(scorer, {**tree["variables"], "normal": tree["learnt"]}, x)

    return _lowered(
        function, scorer, _named(tree), jax.tree.structure(tree), shape, "float32", PLATFORMS
    )


def _of_score(variables: Mapping[str, Any], learnt: Mapping[str, Any]) -> dict[str, Any]:
    return {"variables": own_variables(variables), "learnt": dict(learnt)}


@dataclasses.dataclass(frozen=True, eq=False)
class ProgramScore:
    """A score of somebody's own without its code: the program that was saved with a detector.

    Attributes:
        content: as it is saved.
        run: the program.
        own: of the score, "module.Class".
        text: one line that shows it.
    """

    content: bytes = dataclasses.field(repr=False)
    run: Callable[..., Any] = dataclasses.field(repr=False)
    own: str
    text: str

    def apply(self, variables: Variables, x: jax.Array, learnt: Mapping[str, Any]) -> Any:
        """Scores float32 [B]."""
        return self.run(_named(_of_score(variables, learnt)), x)

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProgramScore) and other.content == self.content


def read_own_score(
    content: bytes, shape: tuple[int, ...], described: Own, where: object
) -> ProgramScore:
    """The score that `lower_own_score` gave the program of.

    Args:
        content: the program.
        shape: of one row.
        described: what is known of the score.
        where: the file, for messages.

    Raises:
        InputError: as `read` does.
    """
    run, _ = _read(content, shape, f"{where}: program score")
    return ProgramScore(content, run, described.own, described.text)


def own_variables(variables: Mapping[str, Any]) -> Variables:
    """A network's variables without what the package keeps beside them."""
    return {name: tree for name, tree in variables.items() if name not in KEPT_BESIDE}


def _named(tree: object) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def lower_error(error: Callable[..., Any], shape: tuple[int, ...]) -> bytes:
    """The program of an error of somebody's own: of rows and reconstructions, stacked.

    Args:
        error: of rows and reconstructions float32 [B, *shape].
        shape: of one row.

    Returns:
        A program of (no arrays, float32 [rows, 2, *shape]), which gives float32 [rows, *shape].
    """

    def function(_: object, pairs: jax.Array) -> Any:
        return error(pairs[:, 0], pairs[:, 1])

    return _lowered(function, None, {}, jax.tree.structure({}), (2, *shape), "float32", PLATFORMS)


@dataclasses.dataclass(frozen=True, eq=False)
class ProgramError:
    """An error of somebody's own without its code: the program that was saved with a detector.

    Attributes:
        content: as it is saved.
        run: the program.
        own: of the error, "module.function".
        text: one line that shows it.
    """

    content: bytes = dataclasses.field(repr=False)
    run: Callable[..., Any] = dataclasses.field(repr=False)
    own: str
    text: str

    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Error of every feature of rows and their reconstructions, float32 [B, ...]."""
        errors: jax.Array = self.run({}, jnp.stack([x, y], axis=1))
        return errors

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProgramError) and other.content == self.content


def read_error(content: bytes, shape: tuple[int, ...], described: Own, where: object) -> Any:
    """The error that `lower_error` gave the program of.

    Args:
        content: the program.
        shape: of one row.
        described: what is known of the error.
        where: the file, for messages.

    Raises:
        InputError: as `read` does.
    """
    run, _ = _read(content, (2, *shape), f"{where}: program error")
    return ProgramError(content, run, described.own, described.text)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ProgramNetwork(Network):
    """A network of somebody's own without its code: the programs that were saved with it.

    It scores, and is saved again; training goes on with the network itself. Its variables are
    flat: their names hold what their structure was.

    Attributes:
        contents: the programs as they are saved, by name.
        calls: what runs each.
        like: shapes and types of one member's variables.
        digest: SHA-256 of the programs, by which it is compared.
    """

    is_own: ClassVar[bool] = True
    maps: ClassVar[bool] = False
    contents: dict[str, bytes] = dataclasses.field(repr=False)
    calls: dict[str, Callable[..., Any]] = dataclasses.field(repr=False)
    like: Variables = dataclasses.field(repr=False)
    digest: str

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProgramNetwork) and other.digest == self.digest

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Variables:
        """Refused: how variables begin is in the code that isn't here."""
        raise InputError(NO_CODE)

    def apply(self, variables: Variables, x: jax.Array, **how: Any) -> Any:
        """As `Network.apply`, but for training."""
        if how.get("train"):
            raise InputError(NO_CODE)
        return self._run("apply", variables, x)

    def call(self, method: str, variables: Variables, *args: Any) -> Any:
        """What "encode" or "decode" gives."""
        return self._run(method, variables, *args)

    def has(self, method: str) -> bool:
        """Whether there is a program of this name."""
        return method in self.calls

    def _run(self, name: str, variables: Variables, x: jax.Array) -> Any:
        return self.calls[name](_named(own_variables(variables)), x)


NO_CODE = (
    "the network is one that was loaded without its code; "
    "allowed: load(folder, network=...) with the network itself, to train on"
)


def read_network(
    contents: Mapping[str, bytes], shape: tuple[int, ...], where: object
) -> ProgramNetwork:
    """The network that `lower_network` gave the programs of.

    Args:
        contents: programs by name.
        shape: of one row.
        where: the file, for messages.

    Raises:
        InputError: as `read` does, or if there is no "apply".
    """
    if "apply" not in contents or not set(contents) <= {"apply", "encode", "decode"}:
        raise InputError(
            f"{where}: programs are {sorted(contents)}; allowed: apply, encode, decode"
        )
    calls: dict[str, Callable[..., Any]] = {}
    arrays: dict[str, jax.ShapeDtypeStruct] = {}
    for name, content in contents.items():
        rows = None if name == "decode" else shape
        calls[name], like = _read(content, rows, f"{where}: program {name}")
        if arrays and like != arrays:
            raise InputError(f"{where}: program {name} takes other arrays than apply")
        arrays = like
    total = hashlib.sha256()
    for name in sorted(contents):
        total.update(f"{name} {len(contents[name])};".encode() + contents[name])
    variables: Variables = {}
    for name, leaf in arrays.items():
        collection, _, rest = name.partition("/")
        variables.setdefault(collection, {})[rest] = leaf
    return ProgramNetwork(
        contents=dict(contents), calls=calls, like=variables, digest=total.hexdigest()
    )


def _read(
    content: bytes, shape: tuple[int, ...] | None, where: object
) -> tuple[Callable[..., Any], dict[str, jax.ShapeDtypeStruct]]:
    """A serialised program of float32 rows, and the arrays that it takes by name.

    It is read, not run: custom calls (native code and Python functions that a program can
    name) and channels out of it are refused, whoever wrote the file.

    Args:
        content: what `_lowered` gave.
        shape: of one of the rows that it has to take; None for any.
        where: the file, for messages.

    Raises:
        InputError: if it is no such program, or one that this release of JAX can't read.
    """
    # Reading waits for threads, too.
    check_own_process()
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
            and (shape is None or rows.shape[1:] == shape)
            and rows.dtype == "float32"
            and len(read.out_avals) == 1
            and read.nr_devices == 1
            and not (read.ordered_effects or read.unordered_effects)
            and all(type(size) is int for array in arrays.values() for size in array.shape)
        )
        like = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in arrays.items()}
    except (AttributeError, IndexError, TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"{where}: the program does not take (arrays, rows) as it is described; "
            f"allowed: rows float32[{ROWS}, {', '.join(map(str, shape or ('...',)))}]"
        )
    return read.call, like


def _line(error: Exception) -> str:
    text = str(error).strip() or repr(error)
    return text.splitlines()[0][:200]
