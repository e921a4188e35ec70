"""What `compiled_program.py` compares: networks with arrays and rows, compiled and not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Self

import jax
import numpy as np

import aejax
from aejax.config import SCORES
from aejax.config.scores import score_object
from aejax.core import optimizers, steps
from aejax.core.members import Epochs
from aejax.core.scaling import Scaler
from aejax.data.columns import Column
from aejax.data.schema import Schema
from aejax.models.backend import shapes_of
from aejax.models.build import build
from tests.plain import plain_config

ROWS = 40_000
KEPT = 100


def random(*of: Any) -> np.random.Generator:
    return np.random.default_rng(list("/".join(map(str, of)).encode()))


def difference(found: Any, expected: Any) -> float:
    """Largest distance of two trees of arrays, as a share of a value and the usual one."""
    largest = 0.0
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
        if a.shape != b.shape or (np.isfinite(a) != np.isfinite(b)).any():
            return float("inf")
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        if b.size:
            scale = np.abs(b) + np.abs(b).mean()
            largest = max(largest, float((np.abs(a - b) / np.maximum(scale, 1e-30)).max()))
    return largest


def slowly(function: Callable[..., Any], *args: Any, drawn: bool = False, **how: Any) -> Any:
    """What a function gives operation by operation; in float64 unless it draws random numbers."""

    def copied(leaf: Any) -> Any:
        # NNX writes its statistics into NumPy arrays. Objects that are no arrays pass.
        if not isinstance(leaf, np.ndarray | np.generic):
            return leaf
        return leaf.astype(np.float64 if leaf.dtype == np.float32 and not drawn else leaf.dtype)

    # Single operations gain nothing by being optimised, and take half as long to compile without.
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with jax.enable_x64(not drawn), jax.disable_jit():
            return function(*jax.tree.map(copied, args), **how)
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def filled(shapes: Any, *of: Any) -> Any:
    """Arrays of these shapes: variances above 0, whole numbers 0, the rest about a half."""
    drawn = random(*of)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        if not np.issubdtype(leaf.dtype, np.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        values = 0.5 * drawn.normal(size=leaf.shape)
        if "var" in jax.tree_util.keystr(path):
            values = 0.5 + np.abs(values)
        return np.asarray(values, np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def mixed_schema(features: int) -> Schema:
    """Columns of every kind in turn."""
    kinds: list[dict[str, Any]] = [
        {"kind": "number"},
        {"kind": "boolean"},
        {"kind": "category", "categories": ("a", "b", "c")},
        {"kind": "cycle", "part": "hour"},
    ]
    names = [f"c{i}" for i in range(features)]
    columns = (Column(name=n, source=n, **kinds[i % 4]) for i, n in enumerate(names))
    return Schema(shape=(features,), names=tuple(names), columns=tuple(columns))


class Setup:
    """A network with arrays of its own and rows for it, as a detector would hold them.

    Args:
        model: as in `aejax.Config`.
        features: of a row.
        schema: of the rows; None for a table of numbers.
        config: what else is configured.
    """

    def __init__(
        self,
        model: Any,
        features: int,
        schema: Schema | None = None,
        **config: Any,
    ) -> None:
        self.schema = schema or Schema(shape=(features,))
        self.config = plain_config(model=model, **config)
        self.network = build(self.config.model, self.schema)
        shape = self.schema.shape
        made = shapes_of(lambda key: self.network.init(key, shape), jax.random.key(0))
        self.variables = filled(made, features, "variables")
        drawn = random(features, "rows")
        self.x: np.ndarray = (2 * drawn.normal(size=(ROWS, *shape)) + 1).astype(np.float32)
        shift, factor = np.ones(shape, np.float32), np.full(shape, 0.5, np.float32)
        self.scaler = Scaler(shift, factor, None)
        if self.config.scale.kind == "none":
            self.x = drawn.uniform(size=self.x.shape).astype(np.float32)
            self.scaler = Scaler(None, None, None)
        if isinstance(model, aejax.Context):
            self.x = drawn.integers(0, model.vocabulary, self.x.shape).astype(np.int32)
        if self.schema.columns is not None:
            for i, column in enumerate(self.schema.columns):
                if column.kind != "number":
                    shift[i], factor[i] = 0, 1
                    top = {"boolean": 2, "category": 4, "cycle": 24}[column.kind]
                    self.x[:, i] = drawn.integers(0, top, ROWS)
            self.x[drawn.uniform(size=self.x.shape) < 0.1] = np.nan
        self.target = None
        if isinstance(model, aejax.Classifier):
            self.target = drawn.integers(0, model.classes, ROWS).astype(np.int32)

    def learn(self) -> Self:
        """Beside the variables, what scores and reasons know of normal rows."""
        features = self.schema.features
        drawn = random(features, "normal")

        def whitening(count: int) -> dict[str, np.ndarray]:
            factor = np.linalg.cholesky(np.eye(count) + 0.5)
            mean = drawn.normal(size=count)
            return {"mean": mean.astype(np.float32), "whitening": factor.astype(np.float32)}

        learnt: dict[str, Any] = {
            "error": drawn.uniform(0.5, 2, features).astype(np.float32),
            "residual": whitening(features),
            "neighbours": drawn.normal(size=(KEPT, features)).astype(np.float32),
            "spacing": drawn.uniform(0.5, 2, KEPT).astype(np.float32),
            "low": np.full(features, -2, np.float32),
            "high": np.full(features, 2, np.float32),
            **whitening(features),
        }
        if self.network.has("encode"):
            rows = jax.ShapeDtypeStruct((1, *self.schema.shape), np.float32)
            encode = partial(self.network.call, "encode")
            learnt["latent"] = whitening(shapes_of(encode, self.variables, rows).size)
        self.variables = {**self.variables, "normal": learnt}
        return self

    def scorer(self, kind: Any = None, **how: Any) -> steps.Scorer:
        score = SCORES[kind]() if kind else score_object(self.config)
        return steps.Scorer(model=self.network, score=score, **{"error": self.config.error, **how})

    def score(self, kind: Any = None, drawn: bool = False, **how: Any) -> float:
        """Difference of `Detector.score`."""
        args = (self.scorer(kind, **how), self.variables, self.scaler, self.x)
        found = steps.compiled_score(*args)
        return difference(found, slowly(steps.score_rows, *args, drawn=drawn))

    def encode(self) -> float:
        """Difference of `Detector.encode`."""
        args = (self.scorer(), self.variables, self.scaler, self.x)
        return difference(steps.compiled_encode(*args), slowly(steps.encode_rows, *args))

    def explain(self) -> float:
        """Difference of `Detector.explain`, but for rows whose features are about equally wrong."""
        top = min(self.schema.features, 3)
        args = (self.scorer("error"), self.variables, self.scaler, self.x, top)
        scores, named, errors = map(np.asarray, steps.compiled_explain(*args))
        expected = tuple(map(np.asarray, slowly(steps.explain_rows, *args)))
        same = (named == expected[1]).all(axis=1)
        if same.mean() < 0.999:
            return float("inf")
        return difference((scores, errors[same]), (expected[0], expected[2][same]))

    def train(self, drawn: bool = False) -> float:
        """Difference of a training step's loss, gradient (by descent) and batch statistics."""
        program, state, values = self.training()
        rows = self.x if self.target is None else (self.x, self.target)
        rest = (rows, np.arange(ROWS) % 7 > 0, self.scaler, values)
        after, loss = steps.compiled_train_step(program, jax.tree.map(np.copy, state), *rest)
        args = (program, state, *rest)
        expected, expected_loss = slowly(steps.train_step, *args, drawn=drawn)
        return max(difference(loss, expected_loss), moved(state, after, expected))

    def validation(self, drawn: bool = False) -> float:
        """Difference of the loss of rows that nothing is learnt from."""
        program, state, values = self.training()
        rows = self.x[None] if self.target is None else (self.x[None], self.target[None])
        args = (program, state.variables, rows, np.ones((1, ROWS), bool), self.scaler, values)
        found = steps.compiled_validation_loss(*args)
        return difference(found, slowly(steps.validation_loss, *args, drawn=drawn))

    def members(self) -> float:
        """Difference of an epoch of two members that train side by side."""
        program, state, values = self.training()
        states, scaler, values = pair((state, self.scaler, values))
        order = np.arange(2 * ROWS, dtype=np.int32).reshape(2, 1, 1, ROWS) % ROWS
        fed = Epochs(order, order[:, 0], scaler, values)
        rest = (None, self.x, fed, np.int32(0), np.int32(1))
        how = {"shared_order": False, "ragged": False}
        copied = jax.tree.map(np.copy, states)
        after, _, *losses = steps.compiled_train_members(program, copied, *rest, **how)
        expected, _, *others = slowly(steps.train_members, program, states, *rest, **how)
        return max(difference(losses, others), moved(states, after, expected))

    def training(self) -> tuple[steps.Program, steps.TrainState, Any]:
        program = steps.program_of(self.config, self.network)
        values = optimizers.numbers(self.config, 10)
        shapes = shapes_of(partial(steps.new_state, program, self.schema.shape), values)
        state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return program, state._replace(variables=self.variables), values


def pair(tree: Any) -> Any:
    """Two members: one as it is, one of other numbers."""
    is_float = partial(np.issubdtype, np.float32)

    def two(leaf: np.ndarray) -> np.ndarray:
        return np.stack([leaf, 0.75 * leaf if is_float(leaf.dtype) else leaf]).astype(leaf.dtype)

    return jax.tree.map(two, tree)


def moved(before: Any, after: Any, expected: Any) -> float:
    """Difference of all that a step changed, each collection of variables as one vector."""
    largest = 0.0
    for name, tree in before.variables.items():
        start, one, other = (
            np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(of)])
            for of in (tree, after.variables[name], expected.variables[name])
        )
        size = np.abs(other - start).max()
        if not np.isfinite(one).all() or not size > 1e-6:
            return float("inf")
        largest = max(largest, float(np.abs(one - other).max() / size))
    return largest
