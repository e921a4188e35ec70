"""From a traced JAX function to an ONNX graph, operation by operation.

The converters that exist bring a training stack of their own with them (jax2onnx 0.17 pins an
Orbax older than the one that writes this package's checkpoints), and a scoring program is
made of few operations: these. What isn't among them is refused by name, never approximated.
What depends on parameters alone is computed here and becomes a constant of the graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aejax.config import InputError
from aejax.config.checks import extra
from aejax.models.backend import default_settings

OPSET = 18
# Operations with as many inputs and outputs there as here, element by element.
_SAME = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "neg": "Neg",
    "abs": "Abs",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "ceil": "Ceil",
    "floor": "Floor",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "erf": "Erf",
    "sign": "Sign",
    "gt": "Greater",
    "lt": "Less",
    "ge": "GreaterOrEqual",
    "le": "LessOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
    "stop_gradient": "Identity",
    "copy": "Identity",
}
_REDUCE = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
_INNER = {"jit": "jaxpr", "pjit": "jaxpr", "custom_jvp_call": "call_jaxpr"}
_INNER |= {"custom_vjp_call": "call_jaxpr", "closed_call": "call_jaxpr"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value that the graph computes.

    Attributes:
        name: of the value in the graph.
        shape: that JAX gives it, with a symbol for the rows.
        whole: whether it has that shape in the graph, or axes of 1 that broadcast to it.
    """

    name: str
    shape: tuple[Any, ...]
    whole: bool = True


Value = Tensor | np.ndarray
# Graph, equation of the trace, inputs -> the result.
Operation = Callable[..., Tensor]


class Graph:
    """An ONNX graph that grows by traced functions.

    Args:
        rows: name of the rows in it that functions take: its input, or what is made of it.
        operations: those that take more than a name to say.
    """

    def __init__(self, rows: str, operations: Mapping[str, Operation]) -> None:
        self.rows, self.operations = rows, operations
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._count = 0

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add an operation; returns the name of its (first) result."""
        with extra("onnx"):
            from onnx import helper

        self._count += 1
        name = f"{kind}_{self._count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, value: object) -> str:
        """Add a constant; returns its name."""
        with extra("onnx"):
            from onnx import numpy_helper

        self._count += 1
        name = f"constant_{self._count}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, function: Callable[[Any], Any], rows: jax.ShapeDtypeStruct) -> str:
        """Add a function of the rows; returns the name of its result.

        Raises:
            InputError: naming an operation that has no counterpart here.
        """
        with default_settings():
            traced = jax.make_jaxpr(function)(rows)
            tensor = Tensor(self.rows, rows.shape)
            (result,) = self._inline(traced.jaxpr, traced.consts, [tensor])
        return self.whole(result)

    def _inline(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        known: dict[Any, Value] = {}
        for var, const in zip(jaxpr.constvars, consts, strict=True):
            known[var] = _known(const)
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Value:
            return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else known[atom]

        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[Value]) -> list[Value]:
        kind, params = equation.primitive.name, equation.params
        if kind in _INNER:
            inner = params[_INNER[kind]]
            return self._inline(inner.jaxpr, inner.consts, inputs)
        if kind == "scan" and (unrolled := self._unrolled(equation, inputs)) is not None:
            return unrolled
        if kind == "platform_index":
            # The form that suits any platform, not the one for XLA on a CPU.
            return [np.asarray(params["platforms"].index(None))]
        if kind == "cond" and not isinstance(inputs[0], Tensor):
            branch = params["branches"][int(inputs[0])]
            return self._inline(branch.jaxpr, branch.consts, inputs[1:])
        out = equation.outvars[0].aval
        static = all(isinstance(size, int) for size in out.shape)
        if static and not any(isinstance(value, Tensor) for value in inputs):
            outputs = equation.primitive.bind(*jax.device_put(inputs), **params)
            return [_known(part) for part in (outputs if isinstance(outputs, list) else [outputs])]
        if kind in _SAME:
            name = self.node(_SAME[kind], [self.name(value) for value in inputs])
            return [self.like(name, equation, inputs)]
        if kind in _REDUCE:
            axes = self.constant(np.array(params["axes"], np.int64))
            names = [self.whole(inputs[0]), axes]
            return [self.result(self.node(_REDUCE[kind], names, keepdims=0), equation)]
        if kind == "call_exported":
            raise InputError(
                "a part of the detector is a saved program, loaded without its code; allowed for "
                "ONNX: the code, as in load(folder, network=...), or stablehlo"
            )
        if kind not in self.operations:
            raise InputError(
                f"the model has the operation {kind!r}, which the ONNX export does not know; "
                "allowed: --format stablehlo"
            )
        return [self.operations[kind](self, equation, *inputs)]

    def _unrolled(self, equation: Any, inputs: list[Value]) -> list[Value] | None:
        """What a loop over constants leaves, step by step; None of another loop."""
        params, inner = equation.params, equation.params["jaxpr"]
        # How many of each there are has other names from release to release: what is looped over,
        # or stacked, has an axis more outside than in.
        first = _as_inside(equation.invars, inner.in_avals)
        fixed = first - _as_inside(equation.outvars, inner.out_avals)
        carried, over = inputs[fixed:first], inputs[first:]
        if any(isinstance(value, Tensor) for value in over) or len(inner.out_avals) > len(carried):
            return None
        steps = range(params["length"])
        for at in reversed(steps) if params["reverse"] else steps:
            each = [value[at] for value in over if not isinstance(value, Tensor)]
            carried = self._inline(inner.jaxpr, inner.consts, [*inputs[:fixed], *carried, *each])
        return carried

    def result(self, name: str, equation: Any, *, whole: bool = True) -> Tensor:
        """What an equation gives, under the name that it has in the graph."""
        return Tensor(name, tuple(equation.outvars[0].aval.shape), whole)

    def like(self, name: str, equation: Any, inputs: Sequence[Value]) -> Tensor:
        """The result of an element-wise operation: whole if one of its inputs is."""
        rank = len(equation.outvars[0].aval.shape)
        whole = any(
            isinstance(value, Tensor) and value.whole and len(value.shape) == rank
            for value in inputs
        )
        return self.result(name, equation, whole=whole)

    def name(self, value: Value) -> str:
        """A value's name, with axes that broadcast."""
        if isinstance(value, Tensor):
            return value.name
        return self.constant(value)

    def whole(self, value: Value) -> str:
        """A value's name, in its full shape."""
        if not isinstance(value, Tensor) or value.whole:
            return self.name(value)
        parts = [
            self.constant(np.array([size], np.int64))
            if isinstance(size, int)
            else self.node("Shape", [self.rows], start=0, end=1)
            for size in value.shape
        ]
        return self.node("Expand", [value.name, self.node("Concat", parts, axis=0)])

    def reshaped(self, name: str, sizes: Sequence[Any]) -> str:
        """Add a change of shape; a symbol stands for what is left."""
        wanted = [size if isinstance(size, int) else -1 for size in sizes]
        if wanted.count(-1) > 1:
            raise InputError("the model reshapes rows into two unknown sizes; allowed: one")
        return self.node("Reshape", [name, self.constant(np.array(wanted, np.int64))])


def _as_inside(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """How many of a loop's values have as many axes outside as in."""
    pairs = zip(outside, inside, strict=True)
    return sum(outer.aval.ndim == inner.ndim for outer, inner in pairs)


def _known(value: Any) -> Any:
    """A constant as NumPy's, but for keys of random numbers, which NumPy doesn't know."""
    is_key = not isinstance(value.dtype, np.dtype)
    return value if is_key else np.asarray(value)
