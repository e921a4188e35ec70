"""Adapters: somebody's own network behind the interface of the built-in ones."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from aejax.config import InputError, Precision
from aejax.config.checks import extra
from aejax.config.own import accepts, in_one_line, taken
from aejax.config.own_network import Functions, OwnNetwork
from aejax.data.schema import Schema
from aejax.models.backend import shapes_of
from aejax.models.heads import refuse_mixed
from aejax.models.network import KEPT_BESIDE, LinenNetwork, Network, Variables

STATE = "state"


def network(settings: OwnNetwork, schema: Schema, precision: Precision) -> Network:
    """The network, checked on rows of the schema's shape.

    Raises:
        InputError: if it gives another shape than it takes, can't be used as it is, or a
            precision is asked for, which is its own affair.
    """
    refuse_mixed(settings, schema)
    if precision != "float32":
        raise InputError(
            f"Config.precision is {precision!r}; allowed with a network of one's own: 'float32' "
            "(it chooses the types of its products itself)"
        )
    return _checked(settings, schema.shape)


@functools.lru_cache(maxsize=64)
def _checked(settings: OwnNetwork, shape: tuple[int, ...]) -> Network:
    made = ADAPTERS[settings.kind](settings, shape)
    if settings.kind == "network":
        return made
    try:
        output = shapes_of(_output(made, shape), jax.random.key(0))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"Config.model: {settings.name} fails on rows of shape {list(shape)} "
            f"({type(error).__name__}: {in_one_line(error, str)}); "
            "allowed: a network that takes them"
        ) from error
    wanted = (2, *shape)
    got = getattr(output, "shape", None)
    if got != wanted or not jnp.issubdtype(output.dtype, jnp.floating):
        said = f"a {type(output).__name__}" if got is None else f"{output.dtype}{list(got)}"
        raise InputError(
            f"Config.model: {settings.name} gives {said} for rows float32{list(wanted)}; "
            "allowed: the shape of its rows, floating-point"
        )
    return made


def _output(made: Network, shape: tuple[int, ...]) -> Callable[[jax.Array], Any]:
    def output(key: jax.Array) -> Any:
        variables = made.init(key, shape)
        if "params" not in variables or not jax.tree.leaves(variables["params"]):
            raise InputError("Config.model: it has no parameters; allowed: at least one array")
        x = jnp.zeros((2, *shape), jnp.float32)
        trained, _ = made.apply(variables, x, train=True, mask=jnp.ones(2, bool), key=key)
        scored = made.apply(variables, x)
        shapes = [list(getattr(y, "shape", ())) for y in (trained, scored)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"Config.model: it gives {shapes[0]} in training and {shapes[1]} else; "
                "allowed: one shape"
            )
        return scored

    return output


def _pair(output: Any, train: bool) -> Any:
    """What a function gave, as `Network.apply` gives it."""
    is_pair = isinstance(output, tuple) and len(output) == 2
    y, changed = output if is_pair else (output, {})
    return (y, dict(changed)) if train else y


@dataclasses.dataclass(frozen=True, kw_only=True, eq=True)
class FunctionNetwork(Network):
    """Pure functions of variables, which are wrapped under "params" unless they are named."""

    is_own: ClassVar[bool] = True
    functions: Functions
    shape: tuple[int, ...]

    __hash__ = Network.__hash__

    @functools.cached_property
    def _bare(self) -> bool:
        made = shapes_of(self._made, jax.random.key(0))
        return not (isinstance(made, dict) and "params" in made)

    def _made(self, key: jax.Array) -> Any:
        assert self.functions.init is not None
        return self.functions.init(key, self.shape)

    def _own(self, variables: Variables) -> Any:
        own = {name: tree for name, tree in variables.items() if name not in KEPT_BESIDE}
        return own["params"] if self._bare else own

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Variables:
        """As `Network.init`."""
        made = self._made(key)
        return {"params": made} if self._bare else dict(made)

    def apply(self, variables: Variables, x: jax.Array, **how: Any) -> Any:
        """As `Network.apply`."""
        how = {"train": False, "mask": None, "key": None, **how}
        train = how["train"]
        assert self.functions.apply is not None
        function = self.functions.apply
        return _pair(function(self._own(variables), x, **taken(function, how)), train)

    def call(self, method: str, variables: Variables, *args: Any) -> Any:
        """What "encode" or "decode" gives."""
        return getattr(self.functions, method)(self._own(variables), *args)

    def has(self, method: str) -> bool:
        """Whether the function was given."""
        return getattr(self.functions, method, None) is not None

    def losses(self, variables: Variables, x: jax.Array, target: object, **how: Any) -> Any:
        """As `Network.losses`."""
        function = self.functions.losses
        if function is None:
            return None
        how = {"train": False, "mask": None, "key": None, **how}
        output = function(self._own(variables), x, target, **taken(function, how))
        pair = _pair(output, True)
        return pair if how["train"] else (pair[0], {})


@dataclasses.dataclass(frozen=True, kw_only=True, eq=True)
class OwnLinenNetwork(LinenNetwork):
    """Somebody's Linen module; its method `losses(x, target)`, if it has one, is its objective."""

    is_own: ClassVar[bool] = True
    __hash__ = Network.__hash__

    def losses(self, variables: Variables, x: jax.Array, target: object, **how: Any) -> Any:
        """As `Network.losses`."""
        if not self.has("losses"):
            return None
        train = how["train"]
        output = self._run(
            variables, x, target, train=train, mask=how["mask"], key=how["key"], method="losses"
        )
        return output if train else (output, {})

    def dropping(self, variables: Variables, rate: jax.Array) -> Variables:
        """As they are: what it drops is its own affair."""
        return variables


@dataclasses.dataclass(frozen=True, kw_only=True, eq=True)
class ModuleNetwork(Network):
    """A module that holds its values: an instance, or what a factory makes.

    Attributes:
        settings: which.
        shape: of one row.
    """

    settings: OwnNetwork
    shape: tuple[int, ...]

    is_own: ClassVar[bool] = True
    __hash__ = Network.__hash__

    def _instance(self, key: jax.Array) -> Any:
        if self.settings.kind != "factory":
            return self.settings.network
        return self.settings.network.make(key, self.shape)


class NnxNetwork(ModuleNetwork):
    """A Flax NNX module. Dropout's keys are drawn anew for every step, and no state is kept."""

    @functools.cached_property
    def _abstract(self) -> Any:
        """Graph, and parameters, random state and the rest as shapes (an instance's: values)."""
        from flax import nnx

        if self.settings.kind != "factory":
            return nnx.split(self.settings.network, nnx.Param, nnx.RngState, ...)
        made = nnx.eval_shape(lambda: self._instance(jax.random.key(0)))
        return nnx.split(made, nnx.Param, nnx.RngState, ...)

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Variables:
        """The module's values; of a factory, those of a new one."""
        from flax import nnx

        parts: Any = nnx.split(self._instance(key), nnx.Param, nnx.RngState, ...)
        _, params, _, rest = parts
        made = {"params": nnx.to_pure_dict(params)}
        others = nnx.to_pure_dict(rest)
        return {**made, STATE: others} if others else made

    def _module(self, variables: Variables, key: jax.Array | None) -> Any:
        from flax import nnx

        graph, params, random, rest = self._abstract
        params, rest = (jax.tree.map(lambda leaf: leaf, tree) for tree in (params, rest))
        # As JAX's own: statistics would be written into a caller's NumPy arrays.
        nnx.replace_by_pure_dict(params, jax.tree.map(jnp.asarray, variables["params"]))
        if STATE in variables:
            nnx.replace_by_pure_dict(rest, jax.tree.map(jnp.asarray, variables[STATE]))
        key = jax.random.key(0) if key is None else key

        def fresh(path: Any, leaf: Any) -> Any:
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            return jax.random.fold_in(key, _number(path)) if is_key else jnp.zeros_like(leaf)

        random = jax.tree_util.tree_map_with_path(fresh, random)
        # Without copies, statistics that are closed over can't change inside a gradient.
        return nnx.merge(graph, params, random, rest, copy=True)

    def apply(self, variables: Variables, x: jax.Array, **how: Any) -> Any:
        """As `Network.apply`; in `eval()` mode unless in training."""
        return self._run("__call__", variables, x, how=how)

    def _run(self, method: str, variables: Variables, *args: Any, how: dict[str, Any]) -> Any:
        from flax import nnx

        how = {"train": False, "mask": None, "key": None, **how}
        train = how["train"]
        module = self._module(variables, how["key"])
        (module.train if train else module.eval)()
        function = getattr(module, method)
        output = function(*args, **taken(function, how))
        if not train:
            return output
        parts: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
        changed = nnx.to_pure_dict(parts[-1])
        return output, ({STATE: changed} if changed else {})

    def losses(self, variables: Variables, x: jax.Array, target: object, **how: Any) -> Any:
        """As `Network.losses`, by the module's method of that name, if it has one."""
        if not self.has("losses"):
            return None
        output = self._run("losses", variables, x, target, how=how)
        return output if how["train"] else (output, {})

    def call(self, method: str, variables: Variables, *args: Any) -> Any:
        """What a method of the module gives, in `eval()` mode."""
        return self._run(method, variables, *args, how={})

    def has(self, method: str) -> bool:
        """Whether the module has a method."""
        from flax import nnx

        graph, params, random, rest = self._abstract
        return callable(getattr(type(nnx.merge(graph, params, random, rest)), method, None))


class EquinoxNetwork(ModuleNetwork):
    """An Equinox module, which is written for one row and mapped over the batch."""

    @functools.cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Arrays that are trained (as shapes, of a factory), and everything else."""
        with extra("equinox"):
            import equinox

        made = self._instance(jax.random.key(0)) if self.settings.kind != "factory" else None
        if made is None:
            made = equinox.filter_eval_shape(self._instance, jax.random.key(0))
        leaves = jax.tree.leaves(made, is_leaf=_is_stateful)
        if any(map(_is_stateful, leaves)):
            raise InputError(
                f"Config.model: {self.settings.name} keeps state between calls "
                "(equinox.nn.StateIndex, as BatchNorm does); allowed: modules without, or "
                "aejax.network(init, apply) that handles it"
            )
        return equinox.partition(made, _is_trained)

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Variables:
        """The module's arrays by their paths; of a factory, those of a new one."""
        with extra("equinox"):
            import equinox

        # Asked first: it refuses what can't be used.
        _ = self._parts
        arrays, _ = equinox.partition(self._instance(key), _is_trained)
        leaves = jax.tree_util.tree_leaves_with_path(arrays)
        return {"params": {jax.tree_util.keystr(path): jnp.asarray(leaf) for path, leaf in leaves}}

    def _module(self, variables: Variables, train: bool) -> Any:
        with extra("equinox"):
            import equinox

        arrays, rest = self._parts
        filled = jax.tree_util.tree_map_with_path(
            lambda path, leaf: variables["params"][jax.tree_util.keystr(path)], arrays
        )
        return equinox.nn.inference_mode(equinox.combine(filled, rest), value=not train)

    def apply(self, variables: Variables, x: jax.Array, **how: Any) -> Any:
        """As `Network.apply`, row by row under `jax.vmap`."""
        train = how.setdefault("train", False)
        module = self._module(variables, train)
        key = how.pop("key", None)
        function = type(module).__call__
        keywords = taken(function, {"train": train})
        if key is None or not accepts(function, "key"):
            y = jax.vmap(lambda row: module(row, **keywords))(x)
        else:
            keys = jax.random.split(key, x.shape[0])
            y = jax.vmap(lambda row, own: module(row, key=own, **keywords))(x, keys)
        return (y, {}) if train else y

    def call(self, method: str, variables: Variables, *args: Any) -> Any:
        """What a method of the module gives, row by row."""
        return jax.vmap(getattr(self._module(variables, False), method))(*args)

    def has(self, method: str) -> bool:
        """Whether the module has a method."""
        with extra("equinox"):
            import equinox

        return callable(getattr(type(equinox.combine(*self._parts)), method, None))


def _is_trained(leaf: object) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def _is_stateful(leaf: object) -> bool:
    return type(leaf).__name__ == "StateIndex" and type(leaf).__module__.startswith("equinox")


def _number(path: Any) -> int:
    import zlib

    return zlib.crc32(jax.tree_util.keystr(path).encode()) & 0x7FFFFFFF


def _factory(settings: OwnNetwork, shape: tuple[int, ...]) -> Network:
    """By what the factory makes."""
    from aejax.config.own_network import own_network

    made: Any = None

    def once(key: jax.Array) -> jax.Array:
        nonlocal made
        made = settings.network.make(key, shape)
        return key

    shapes_of(once, jax.random.key(0))
    kind = own_network(made).kind
    if kind not in ("nnx", "equinox"):
        raise InputError(
            f"Config.model: make gives a {kind} network; allowed: a Flax NNX or an Equinox module"
        )
    return (NnxNetwork if kind == "nnx" else EquinoxNetwork)(settings=settings, shape=shape)


def _absent(settings: OwnNetwork, shape: tuple[int, ...]) -> Network:
    raise InputError(
        f"Config.model is {settings.name}, of which only the description is here; allowed: "
        "load(folder, network=...) with the network itself"
    )


ADAPTERS: dict[str, Callable[[OwnNetwork, tuple[int, ...]], Network]] = {
    "linen": lambda settings, shape: OwnLinenNetwork(module=settings.network),
    "nnx": lambda settings, shape: NnxNetwork(settings=settings, shape=shape),
    "equinox": lambda settings, shape: EquinoxNetwork(settings=settings, shape=shape),
    "functions": lambda settings, shape: FunctionNetwork(functions=settings.network, shape=shape),
    "factory": _factory,
    "network": lambda settings, shape: settings.network,
    "absent": _absent,
}
