"""Somebody's own network in a configuration."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, Literal

from aejax.config.checks import InputError, suggest
from aejax.config.models import NetworkSettings
from aejax.config.own import import_named, in_one_line, require_hashable

Kind = Literal["linen", "nnx", "equinox", "functions", "factory", "network", "absent"]
ALLOWED = (
    "settings of a built-in network, a Flax Linen or NNX module, an Equinox module, "
    "or aejax.network(init, apply)"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Functions:
    """A network as functions, or a factory of modules; what `aejax.network` gives.

    Attributes are those of `network`.
    """

    init: Callable[..., Any] | None = None
    apply: Callable[..., Any] | None = None
    make: Callable[..., Any] | None = None
    encode: Callable[..., Any] | None = None
    decode: Callable[..., Any] | None = None
    losses: Callable[..., Any] | None = None
    widest: int | None = None
    name: str | None = None


def network(
    init: Callable[..., Any] | None = None,
    apply: Callable[..., Any] | None = None,
    *,
    make: Callable[..., Any] | None = None,
    encode: Callable[..., Any] | None = None,
    decode: Callable[..., Any] | None = None,
    losses: Callable[..., Any] | None = None,
    widest: int | None = None,
    name: str | None = None,
) -> Functions:
    """A network made of pure functions, or of a factory, for `Config(model=...)`.

    Of `train`, `mask` and `key` each function gets those keywords that its signature has:
    `train` is bool; `mask` is bool [B], False where a row is padding; `key` is of this batch.

    Args:
        init: (key, shape of one row) -> variables, any pytree of arrays. All of them are trained,
            unless it is a dict with "params": then those are, and `apply` may change the others.
        apply: (variables, x) -> reconstructions, float32 [B, *shape] of scaled rows
            float32 [B, *shape]; in training it may give a pair of these and a dict of the
            variables that changed (batch statistics).
        make: instead of both: (key, shape of one row) -> a Flax NNX or an Equinox module, so
            that each member of an ensemble begins with values of its own.
        encode: (variables, x) -> latent values [B, ...], if it has them.
        decode: (variables, latent values) -> reconstructions, if it can.
        losses: (variables, x, target) -> [B], or a pair of these and what changed: an objective
            of its own, in the place of `Train.loss`. x are the rows as the network sees them
            (with noise, where `Train.noise` is set), target what they should become.
        widest: values of the widest layer for one row, by which batches are sized; None takes
            four times the row's.
        name: to show; None takes the name of `apply` or `make`.

    Raises:
        InputError: if neither `init` and `apply` nor `make` are functions.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def init(key, shape):
        ...     down = 0.1 * jax.random.normal(key, (shape[0], 2))
        ...     return {"down": down, "up": jnp.zeros((2, shape[0]))}
        >>> def apply(variables, x):
        ...     return jnp.tanh(x @ variables["down"]) @ variables["up"]
        >>> network(init, apply).apply is apply
        True
    """
    if make is None and not (callable(init) and callable(apply)):
        raise InputError(
            f"network: init is {init!r} and apply is {apply!r}; allowed: two functions, or make"
        )
    if make is not None and (init is not None or apply is not None or not callable(make)):
        raise InputError("network: make is given beside init and apply; allowed: one of both")
    if widest is not None and (not isinstance(widest, int) or widest < 1):
        raise InputError(f"network: widest is {widest!r}; allowed: a whole number, at least 1")
    return Functions(
        init=init, apply=apply, make=make, encode=encode, decode=decode, losses=losses,
        widest=widest, name=name,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OwnNetwork(NetworkSettings):
    """Somebody's own network, wrapped when a `Config` is made: hashable and comparable.

    Attributes:
        network: the module or `Functions`; a `models.network.Network` as it is, which is what
            a network loaded without its code becomes; None where only its description is known.
        kind: what it is.
        name: of its class or function, with its module.
        text: what it calls itself, in one line.
    """

    network: Any
    kind: Kind
    name: str
    text: str = ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OwnNetwork) or self.kind != other.kind:
            return False
        if self.network is None:
            return (self.name, self.text) == (other.name, other.text)
        # An Equinox module's == gives an array.
        if self.kind in ("nnx", "equinox", "factory"):
            return self.network is other.network
        return bool(self.network == other.network)

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        if self.network is None:
            return hash((self.name, self.text))
        identity = self.kind in ("nnx", "equinox", "factory")
        return id(self.network) if identity else hash(self.network)

    def widest(self, features: int) -> int:
        """As it was said, or four times the row's values."""
        said = getattr(self.network, "widest", None) if self.kind == "functions" else None
        return said if isinstance(said, int) else 4 * features

    def to_dict(self) -> dict[str, Any]:
        """Its description, JSON-ready; the network itself is not in it."""
        return {"kind_name": "own", "name": self.name, "text": self.text}


def described(name: str, text: str) -> OwnNetwork:
    """A network of which only the description is known."""
    return OwnNetwork(network=None, kind="absent", name=name, text=text)


def own_network(value: object) -> OwnNetwork:
    """A network as it is kept in a configuration.

    Raises:
        InputError: if it is none, or one that can't be compared.
    """
    if isinstance(value, OwnNetwork):
        return value
    if isinstance(value, Functions):
        kind: Kind = "functions" if value.make is None else "factory"
        function = value.make or value.apply
        name = value.name or _name(function)
        return _wrapped(value, kind, name)
    module_kind = _kind_of_module(type(value))
    if module_kind is None:
        raise InputError(f"Config.model is {in_one_line(value)}; allowed: {ALLOWED}")
    return _wrapped(value, module_kind, _name(type(value)))


def named_network(place: str, settings: Iterable[str]) -> Any:
    """What a person's own code has under "package.module:name", for `Config(model=...)`.

    What has that name is a network, or a class or a function that is called with the settings and
    gives one; a function of `key` and `shape` is a factory, as in `network(make=...)`. It runs
    that code: only for text of a command line, never of a file.

    Args:
        place: where it is.
        settings: "name=value", each a keyword; values are Python literals, or text.

    Raises:
        InputError: if it can't be imported or made, or has no such setting, or one of another type.
    """
    made = import_named(place, "--model")
    written = dict(_named_text(text) for text in settings)
    is_class = isinstance(made, type)
    is_network = isinstance(made, Functions) or (not is_class and _kind_of_module(type(made)))
    if is_network or not callable(made):
        if written:
            raise InputError(
                f"--set {next(iter(written))} is given, and --model is {place!r}, a network as it "
                "is; allowed: with a class or a function"
            )
        return made
    known = _parameters(made)
    is_factory = not is_class and {"key", "shape"} <= known.keys()
    allowed = [name for name in known if not (is_factory and name in ("key", "shape"))]
    for name in written:
        if name not in allowed:
            raise InputError(
                f"--set {name} is given, which {place} doesn't take; {suggest(name, allowed)}"
            )
    values = {name: _value(name, text, known[name]) for name, text in written.items()}
    if is_factory:
        return network(make=functools.partial(made, **values), name=_name(made))
    try:
        return made(**values)
    except Exception as error:
        raise InputError(
            f"--model is {place!r}, which can't be made ({type(error).__name__}: "
            f"{in_one_line(error, str)}); allowed: a network, a class or a function that gives one "
            f"by --set ({', '.join(allowed) or 'it takes nothing'}), or a function of key and shape"
        ) from error


def _named_text(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise InputError(f"--set is {text!r}; allowed: name=value")
    return name, value


def _parameters(made: Any) -> dict[str, Any]:
    """What a class or a function takes by name, with types where they are said."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    # Linen adds these to a module, to say where it stands.
    beside = ("parent", "name") if _kind_of_module(made) == "linen" else ()
    try:
        hints = typing.get_type_hints(made)
    except Exception:  # Names in annotations that only a type checker knows.
        hints = {}
    try:
        parameters = list(inspect.signature(made).parameters.values())
    except (TypeError, ValueError):  # Of some compiled functions nothing is known.
        parameters = []
    names = [p.name for p in parameters if p.kind in by_name and p.name not in beside]
    return {name: hints.get(name, Any) for name in names}


def _value(name: str, text: str, hint: object) -> Any:
    """A literal, or else text, of the type that is asked for."""
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    for one in (value, text):
        if _is_of(one, hint):
            return one
    shown = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    raise InputError(f"--set {name} is {in_one_line(text)}; allowed: {shown}")


def _is_of(value: object, hint: object) -> bool:
    """Whether a value is of a type, as far as types of plain values say."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(value, option) for option in options)
    if origin is Literal:
        return value in options
    if origin is tuple and isinstance(value, tuple):
        each = options[:1] * len(value) if options[1:] == (...,) else options
        return len(each) == len(value) and all(map(_is_of, value, each))
    kind = origin or hint
    if kind in (int, float):
        return not isinstance(value, bool) and isinstance(value, (int, kind))
    return kind not in (bool, str, tuple, type(None)) or isinstance(value, kind)


def _wrapped(value: object, kind: Kind, name: str) -> OwnNetwork:
    wrapped = OwnNetwork(network=value, kind=kind, name=name, text=in_one_line(value))
    allowed = "fields that are numbers, text, functions or tuples of these"
    require_hashable(wrapped, f"Config.model is {name}", allowed)
    return wrapped


def _kind_of_module(kind: object) -> Kind | None:
    """What a class of modules is, by the names of its bases: nothing is imported to find out."""
    for base in getattr(kind, "__mro__", ()):
        home = base.__module__
        if base.__name__ == "Module" and home.startswith("flax.linen"):
            return "linen"
        if base.__name__ in ("Module", "Pytree") and home.startswith("flax.nnx"):
            return "nnx"
        if base.__name__ == "Module" and home.startswith("equinox"):
            return "equinox"
        if base.__name__ == "Network" and home == "aejax.models.network":
            return "network"
    return None


def _name(thing: object) -> str:
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', repr(thing))}"
