"""The hot path, compiled: every `jax.jit` of the package is here.

What is compiled is written, unjitted, in `learn.py`, `members.py`, `score.py`, `inside.py`,
`reasons.py` and `tiles.py`: there it can be mapped over a population's members, lowered for
export, or sharded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aejax.config import Precision
from aejax.core.errors import feature_error
from aejax.core.inside import (
    decode_rows,
    encode_rows,
    error_rows,
    explain_rows,
    layer_state,
    output_rows,
    reconstruct_rows,
    state_rows,
)
from aejax.core.learn import (
    Best,
    Program,
    TrainState,
    is_frozen,
    keep_best,
    learning_rates,
    new_best,
    new_state,
    new_variables,
    program_of,
    train_step,
    train_steps,
    validation_loss,
)
from aejax.core.members import Epochs, new_members, train_epochs, train_members
from aejax.core.optimizers import Numbers
from aejax.core.scaling import Scaler
from aejax.core.scaling import apply as scale_rows
from aejax.core.score import Scorer, score_columns, score_rows, scores_by_row
from aejax.core.tiles import tiled
from aejax.core.uncompiled import evaluated
from aejax.models.backend import check_own_process, compiler_options, default_settings, shapes_of

__all__ = [
    "Best",
    "Compiled",
    "Epochs",
    "Program",
    "Scorer",
    "TrainState",
    "compiled_any",
    "compiled_decode",
    "compiled_encode",
    "compiled_errors",
    "compiled_explain",
    "compiled_feature_error",
    "compiled_keep_best",
    "compiled_layer_state",
    "compiled_learning_rates",
    "compiled_many_new_members",
    "compiled_member_scores",
    "compiled_new_best",
    "compiled_new_best_of_members",
    "compiled_new_members",
    "compiled_new_state",
    "compiled_output",
    "compiled_reconstruct",
    "compiled_scale",
    "compiled_score",
    "compiled_score_columns",
    "compiled_train_members",
    "compiled_train_step",
    "compiled_train_steps",
    "compiled_validation_loss",
    "decode_rows",
    "encode_rows",
    "error_rows",
    "explain_rows",
    "is_frozen",
    "keep_best",
    "layer_state",
    "learning_rates",
    "new_best",
    "new_members",
    "new_state",
    "new_variables",
    "output_rows",
    "program_of",
    "program_text",
    "reconstruct_rows",
    "score_columns",
    "score_rows",
    "scores_by_row",
    "state_rows",
    "train_epochs",
    "train_members",
    "train_step",
    "train_steps",
    "validation_loss",
]


def program_text(program: Program, scaler: Scaler, values: Numbers, shape: tuple[int, ...]) -> str:
    """What a training program computes, in StableHLO: first variables, step, validation loss.

    Numbers that change between runs are no part of it; those that a network holds are.

    Args:
        program: what is trained.
        scaler: its arrays' shapes count.
        values: likewise.
        shape: of a batch of rows, [B, ...].
    """

    def like(dtype: type, *sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype)

    def rows(*sizes: int) -> Any:
        return like(np.float32, *sizes, *shape[1:])

    with default_settings():
        state = shapes_of(partial(new_state, program, shape[1:]), values)
        lowered = (
            compiled_new_state.jitted(program).lower(program, shape[1:], values),
            compiled_train_step.jitted(program).lower(
                program, state, rows(shape[0]), like(bool, shape[0]), scaler, values
            ),
            compiled_validation_loss.jitted(program).lower(
                program, state.variables, rows(1, shape[0]), like(bool, 1, shape[0]), scaler, values
            ),
        )
        return "\n".join(one.as_text() for one in lowered)


class Compiled:
    """A function jitted on first use, when the backend is known, with the options that suit it.

    Args:
        function: whose first argument may hold the model that decides the precision.
        one_thread: run on one thread of a CPU, because others run beside it.
        how: `jax.jit`'s keyword arguments.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        one_thread: bool = False,
        **how: Any,
    ) -> None:
        self._function, self._one_thread, self._how = function, one_thread, how
        self._jitted: dict[str, Any] = {}
        self._jitted_of_leaves: dict[str, Any] = {}

    @cached_property
    def of_tiles(self) -> Compiled:
        """The same of tiles of rows, each by its own member; see `core.tiles.tiled`."""
        static = self._how["static_argnames"]
        static = (static,) if isinstance(static, str) else static
        return Compiled(tiled(self._function), static_argnames=(*static, "side_by_side"))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the compiled program, compiling it for new static values and shapes."""
        with default_settings():
            return self.jitted(args[0])(*args, **kwargs)

    def on(self, first: Any, *arrays: Any) -> Callable[..., Any]:
        """The function of the arguments that follow some arrays.

        The arrays' tree is looked through here, where a call of `self` does at every call: as
        long as a small network takes for a row.

        Args:
            first: the first argument, static.
            arrays: the arguments after it, on the devices that compute.
        """
        leaves, tree = jax.tree.flatten(arrays)
        jitted = self._of_leaves(_precision(first))

        def call(*args: Any, **kwargs: Any) -> Any:
            check_own_process()
            with default_settings():
                return jitted(first, tree, leaves, *args, **kwargs)

        return call

    def _of_leaves(self, precision: Precision) -> Any:
        if precision not in self._jitted_of_leaves:

            def of_leaves(first: Any, tree: Any, leaves: Any, *args: Any, **kwargs: Any) -> Any:
                return self._function(first, *jax.tree.unflatten(tree, leaves), *args, **kwargs)

            static = self._how["static_argnames"]
            static = [static] if isinstance(static, str) else static
            self._jitted_of_leaves[precision] = jax.jit(
                of_leaves,
                compiler_options=self._options(precision),
                static_argnums=(0, 1),
                # The first one by its place.
                static_argnames=static[1:],
            )
        return self._jitted_of_leaves[precision]

    def jitted(self, first: Any) -> Any:
        """The jitted function for a first argument; what it offers (`lower`, say) is JAX's.

        To be used within `default_settings`.
        """
        check_own_process()
        precision = _precision(first)
        if precision not in self._jitted:
            options = self._options(precision)
            self._jitted[precision] = jax.jit(self._function, compiler_options=options, **self._how)
        return self._jitted[precision]

    def _options(self, precision: Precision) -> Any:
        return compiler_options(precision, jax.jit, one_thread=self._one_thread)

    def programs(self) -> int:
        """How many programs have been compiled; with arrays of NumPy too, it counts twice."""
        # JAX has no public count of them.
        jitted = (*self._jitted.values(), *self._jitted_of_leaves.values())
        return sum(one._cache_size() for one in jitted)


class Drawn(Compiled):
    """A function that runs once in a training: computed by NumPy where that knows how."""

    def __call__(self, program: Program, shape: tuple[int, ...], *arrays: Any) -> Any:
        """The function's arrays, of NumPy or on JAX's default device."""
        with default_settings():
            traced = self.jitted(program).trace(program, shape, *arrays)
            drawn = evaluated(traced.jaxpr, jax.tree.leaves(jax.device_get(arrays)))
        if drawn is None:
            return super().__call__(program, shape, *jax.device_put(arrays))
        return jax.tree.unflatten(jax.tree.structure(traced.out_info), drawn)


def _precision(first: Any) -> Precision:
    precision: Precision = getattr(getattr(first, "model", None), "precision", "float32")
    return precision


compiled_learning_rates = Compiled(learning_rates, static_argnames="schedule")
compiled_new_state = Drawn(new_state, static_argnames=("program", "shape"))
compiled_train_step = Compiled(train_step, static_argnames="program", donate_argnames="state")
compiled_train_steps = Compiled(train_steps, static_argnames="program", donate_argnames="state")
compiled_validation_loss = Compiled(validation_loss, static_argnames="program")
compiled_keep_best = Compiled(keep_best, donate_argnames="best")
compiled_new_best = Compiled(new_best)
compiled_new_best_of_members = Compiled(jax.vmap(new_best))
compiled_new_members = Drawn(new_members, static_argnames=("program", "shape"))
# Where there are so many that a program's compilation is less than drawing cohort by cohort.
compiled_many_new_members = Compiled(new_members, static_argnames=("program", "shape"))
compiled_train_members = Compiled(
    train_members,
    one_thread=True,
    static_argnames=("program", "shared_order", "ragged"),
    donate_argnames=("states", "best"),
)
compiled_member_scores = Compiled(scores_by_row, static_argnames="scorer")
compiled_any = Compiled(jnp.any, static_argnames="axis")
compiled_scale = Compiled(scale_rows)
compiled_feature_error = Compiled(feature_error, static_argnames="name")
compiled_score = Compiled(score_rows, static_argnames="scorer")
compiled_score_columns = Compiled(score_columns, static_argnames="scorer")
compiled_explain = Compiled(explain_rows, static_argnames=("scorer", "top"))
compiled_encode = Compiled(encode_rows, static_argnames="scorer")
compiled_errors = Compiled(error_rows, static_argnames="scorer")
compiled_reconstruct = Compiled(reconstruct_rows, static_argnames="scorer")
compiled_decode = Compiled(decode_rows, static_argnames="scorer")
compiled_output = Compiled(output_rows, static_argnames="scorer")
compiled_layer_state = Compiled(layer_state, static_argnames=("scorer", "layer"))
