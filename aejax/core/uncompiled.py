"""Programs that run once, computed by NumPy as JAX traced them: nothing is compiled.

Compiling a network's first values takes longer than training a small one. They are random bits
and a few operations whose results IEEE 754 fixes, so NumPy gives the same to the last bit.
Random bits are those of Threefry-2x32 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers:
as easy as 1, 2, 3", SC 2011), with a counter for every element, as `jax.random` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

Array = np.ndarray[Any, Any]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
# Numbers that are drawn together, so that they stay in a core's cache.
_AT_ONCE = 1 << 15


def evaluated(program: ClosedJaxpr, arguments: Sequence[Array]) -> list[Array] | None:
    """What a traced program gives, or None if it needs an operation that isn't known here.

    Args:
        program: without effects.
        arguments: its arrays.
    """
    with np.errstate(over="ignore"):
        try:
            return _evaluated(program, arguments)
        except KeyError:
            return None


def _evaluated(program: ClosedJaxpr, arguments: Sequence[Array]) -> list[Array]:
    jaxpr = program.jaxpr
    needed = {id(out) for out in jaxpr.outvars}
    steps = []
    for step in reversed(jaxpr.eqns):
        # A network is traced with rows that nothing depends on.
        if any(id(out) in needed for out in step.outvars):
            needed.update(map(id, step.invars))
            steps.append(step)
    known: dict[int, Array] = {}
    for names, values in ((jaxpr.constvars, program.consts), (jaxpr.invars, arguments)):
        known.update(zip(map(id, names), map(np.asarray, values), strict=True))

    def value(of: Any) -> Array:
        if isinstance(of, Literal):
            return np.asarray(of.val, of.aval.dtype)  # type: ignore[attr-defined]
        return known[id(of)]

    for step in reversed(steps):
        inputs = [value(one) for one in step.invars]
        if (inner := step.params.get("jaxpr")) is not None and step.primitive.name in _CALLS:
            outputs = _evaluated(inner, inputs)
        else:
            outputs = [_OPERATIONS[step.primitive.name](step.params, *inputs)]
        known.update(zip(map(id, step.outvars), outputs, strict=True))
    return [value(out) for out in jaxpr.outvars]


def _threefry(key: Array, counter: Array) -> tuple[Array, Array]:
    """Two words for every counter below 2**32, by a key uint32 [..., 2]."""
    words = (key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ _PARITY)
    a, b = words[0], counter + words[1]
    for turn in range(5):
        for left in _ROTATIONS[turn % 2]:
            a = a + b
            b = (b << np.uint32(left) | b >> np.uint32(32 - left)) ^ a
        a = a + words[(turn + 1) % 3]
        b = b + words[(turn + 2) % 3] + np.uint32(turn + 1)
    return a, b


def _seed(params: dict[str, Any], seed: Array) -> Array:
    if params["impl"].name != "threefry2x32" or seed.dtype.itemsize != 4:
        raise KeyError(params["impl"])
    return np.stack([np.zeros_like(seed, np.uint32), seed.astype(np.uint32)], axis=-1)


def _bits(params: dict[str, Any], key: Array) -> Array:
    shape, size = params["shape"], int(np.prod(params["shape"], dtype=np.int64))
    if params["bit_width"] != 32 or size >= 1 << 32:
        raise KeyError(params["bit_width"])
    bits = np.empty((*key.shape[:-1], size), np.uint32)
    part = max(1, _AT_ONCE * key.shape[-1] // key.size)
    for first in range(0, size, part):
        counter = np.arange(first, min(first + part, size), dtype=np.uint32)
        a, b = _threefry(key[..., None, :], counter)
        bits[..., first : first + part] = a ^ b
    return bits.reshape(*key.shape[:-1], *shape)


def _broadcast(params: dict[str, Any], x: Array, *_: Array) -> Array:
    shape = [1] * len(params["shape"])
    for axis, size in zip(params["broadcast_dimensions"], x.shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(x.reshape(shape), params["shape"])


def _select(_: dict[str, Any], which: Array, no: Array, yes: Array) -> Array:
    return np.where(which, yes, no)


_CALLS = ("jit", "pjit")
_OPERATIONS: dict[str, Callable[..., Array]] = {
    "add": lambda _, a, b: a + b,
    "bitcast_convert_type": lambda params, x: x.view(params["new_dtype"]),
    "broadcast_in_dim": _broadcast,
    "convert_element_type": lambda params, x: x.astype(params["new_dtype"]),
    "copy": lambda _, x: x,
    "max": lambda _, a, b: np.maximum(a, b),
    "mul": lambda _, a, b: a * b,
    "or": lambda _, a, b: a | b,
    "random_bits": _bits,
    "random_fold_in": lambda _, key, data: np.stack(_threefry(key, data), axis=-1),
    "random_seed": _seed,
    "reshape": lambda params, x: x.reshape(params["new_sizes"]),
    "select_n": _select,
    "shift_right_logical": lambda _, x, by: x >> by,
    "sqrt": lambda _, x: np.sqrt(x),
    "sub": lambda _, a, b: a - b,
}
