"""A network as training and scoring know it: pure functions of its variables.

Everything above this room asks a `Network` and never what is behind it: one of the package's
own Linen modules or somebody's.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import inspect
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from aejax.config import Precision
from aejax.models import layers
from aejax.models.heads import Head

Variables = dict[str, Any]
# What the package keeps beside a network's own variables; see docs/design.md.
KEPT_BESIDE = ("normal", "weights", "mask", "calibration", "dropout")
# Random streams of a Linen module, and what each is folded out of a batch's key with.
STREAMS = {"dropout": 1, "samples": 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network(abc.ABC):
    """What maps rows to reconstructions; hashable, compared by value.

    Variables are a dict: "params" is what training changes by gradients, other names hold what
    a step may change otherwise (batch statistics). A subclass says how they are made and used.

    Attributes:
        precision: type of the inputs of the products; what compiler options depend on.
        heads: of the columns, of a network of mixed tables; None of others.
        reconstructs: whether `apply` gives rows of the shape that it takes.
        own_score: name of the score of a network that reconstructs nothing, or None.
        is_own: whether it is somebody's own, which no settings describe.
        maps: whether `jax.vmap` over its variables works; programs read from files have no rule.
    """

    is_own: ClassVar[bool] = False
    maps: ClassVar[bool] = True

    precision: Precision = "float32"
    heads: tuple[Head, ...] | None = None
    reconstructs: bool = True
    own_score: str | None = None

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        # Compiled programs are looked up by it, at every call.
        fields = dataclasses.fields(self)
        return hash((type(self), *(getattr(self, field.name) for field in fields)))

    @abc.abstractmethod
    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Variables:
        """Fresh variables.

        Args:
            key: of everything random in them.
            shape: of one row.
        """

    @abc.abstractmethod
    def apply(
        self,
        variables: Variables,
        x: jax.Array,
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> Any:
        """Reconstructions of scaled rows.

        Args:
            variables: as `init` gives them, and what the package keeps beside them.
            x: float32 [B, *shape].
            train: whether batch statistics are the batch's and units are dropped.
            mask: bool [B]; rows that are False are padding and don't enter statistics.
            key: of this batch's randomness.

        Returns:
            float32 [B, *shape]; in training, a pair of these and the variables that changed.
        """

    def restore(
        self,
        variables: Variables,
        x: jax.Array,
        *,
        train: bool,
        mask: jax.Array,
        key: jax.Array,
    ) -> Any:
        """What training compares with the rows; as `apply`, of networks that add no noise."""
        return self.apply(variables, x, train=train, mask=mask, key=key)

    @property
    def takes_columns(self) -> bool:
        """Whether `apply_columns` is there."""
        return False

    def apply_columns(self, variables: Variables, x: jax.Array) -> jax.Array:
        """Reconstructions of scaled rows that lie side by side, float32 [features, B] both."""
        raise NotImplementedError

    @abc.abstractmethod
    def call(self, method: str, variables: Variables, *args: Any) -> Any:
        """What one of the network's other functions gives: "encode", "decode" or its own."""

    def encode(self, variables: Variables, x: jax.Array) -> Any:
        """Latent values [B, ...] of scaled rows, of a network that has them."""
        return self.call("encode", variables, x)

    def decode(self, variables: Variables, latent: jax.Array) -> Any:
        """Scaled rows [B, ...] of latent values, of a network that decodes."""
        return self.call("decode", variables, latent)

    def has(self, method: str) -> bool:
        """Whether `call` knows a method."""
        return False

    def losses(
        self,
        variables: Variables,
        x: jax.Array,
        target: object,
        *,
        mask: jax.Array,
        key: jax.Array,
        train: bool,
        beta: jax.Array,
    ) -> tuple[jax.Array, Variables] | None:
        """The loss of every row, float32 [B], of a network with an objective of its own.

        Args:
            variables: as in `apply`.
            x: rows as the network sees them (with noise, where there is some), [B, *shape].
            target: what they should become, [B, *shape]; or int32 [B], the rows' classes.
            mask: as in `apply`.
            key: as in `apply`.
            train: as in `apply`.
            beta: weight of a second term.

        Returns:
            The losses and the variables that changed ({} unless `train`); None stands for the
            reconstruction error that the configuration names.
        """
        return None

    def dropping(self, variables: Variables, rate: jax.Array) -> Variables:
        """Variables with which hidden units are dropped in training, as often as `rate` says."""
        return variables

    def states(self, variables: Variables, x: jax.Array) -> dict[str, jax.Array]:
        """The states that the network keeps of its layers: name -> float32 [B, ...]."""
        return {}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=True)
class LinenNetwork(Network):
    """A Flax Linen module.

    Attributes:
        module: called with rows, and with those of `train`, `mask` that its `__call__` has.
    """

    module: nn.Module

    __hash__ = Network.__hash__

    @functools.cached_property
    def _takes(self) -> frozenset[str]:
        return frozenset(inspect.signature(type(self.module).__call__).parameters)

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Variables:
        """Fresh variables of the module, for rows of one shape."""
        streams = {name: jax.random.fold_in(key, at) for name, at in STREAMS.items()}
        rows = jnp.zeros((1, *shape), jnp.float32)
        made = self.module.init({"params": key, **streams}, rows, **self._how(False, None))
        return {name: tree for name, tree in made.items() if name not in ("states", *KEPT_BESIDE)}

    def apply(
        self,
        variables: Variables,
        x: jax.Array,
        *,
        train: bool = False,
        mask: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> Any:
        """As `Network.apply`."""
        return self._run(variables, x, train=train, mask=mask, key=key)

    def _run(
        self,
        variables: Variables,
        *args: Any,
        train: bool = False,
        mask: jax.Array | None = None,
        key: jax.Array | None = None,
        method: str | None = None,
        **more: Any,
    ) -> Any:
        how: dict[str, Any] = {**self._how(train, mask), **more}
        if key is not None:
            how["rngs"] = {name: jax.random.fold_in(key, at) for name, at in STREAMS.items()}
        if not train:
            return self.module.apply(variables, *args, method=method, **how)
        changing = [name for name in variables if name not in ("params", *KEPT_BESIDE)]
        outputs: Any = self.module.apply(variables, *args, method=method, mutable=changing, **how)
        return outputs[0], dict(outputs[1])

    def _how(self, train: bool, mask: jax.Array | None) -> dict[str, Any]:
        keywords = {"train": train, "training": train, "deterministic": not train, "mask": mask}
        return {name: value for name, value in keywords.items() if name in self._takes}

    @property
    def takes_columns(self) -> bool:
        """Whether the module of the package has such a method."""
        return not self.is_own and bool(getattr(self.module, "takes_columns", False))

    def apply_columns(self, variables: Variables, x: jax.Array) -> jax.Array:
        """As `Network.apply_columns`."""
        output: jax.Array = self.call("reconstruct_columns", variables, x)
        return output

    def call(self, method: str, variables: Variables, *args: Any) -> Any:
        """What a method of the module gives; nothing in it is random or in training."""
        return self.module.apply(variables, *args, method=method)

    def has(self, method: str) -> bool:
        """Whether the module has a method."""
        return callable(getattr(type(self.module), method, None))

    def dropping(self, variables: Variables, rate: jax.Array) -> Variables:
        """As `Network.dropping`, for modules made of `models.dropout.Dropout`."""
        return {**variables, **layers.rates(self.module, rate)}

    def states(self, variables: Variables, x: jax.Array) -> dict[str, jax.Array]:
        """What the module sows into the collection "states"; see `models.layers.keep_state`."""
        how = self._how(False, None)
        _, kept = self.module.apply(variables, x, mutable=["states"], **how)
        leaves = jax.tree_util.tree_leaves_with_path(dict(kept).get("states", {}))
        # Each name holds a tuple of what was sown under it: one value a call.
        return {"/".join(str(part.key) for part in path[:-1]): value for path, value in leaves}
