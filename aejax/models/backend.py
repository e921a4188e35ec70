"""What programs are compiled under: JAX's settings, and options that make a backend fast."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, get_abstract_mesh

from aejax.config import InputError, Precision

CompilerOptions = dict[str, bool | int | float | str]

# XLA's CPU backend gives products to YNNPACK. In bfloat16 that is its way to AMX and three
# times Eigen's speed; in float32 Eigen takes half the time for 512x128 by 128x128 and
# 7 to 25 % less for whole models (benchmarks/README.md). Reductions stay with YNNPACK.
_FLOAT32_ON_CPU: CompilerOptions = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"
}
_ONE_THREAD: CompilerOptions = {"xla_cpu_multi_thread_eigen": False}

# Settings that change what a program computes or refuse what it does on purpose (NaN is a
# missing cell), with JAX's defaults and what sets them for a while.
_SETTINGS: dict[str, tuple[Any, Callable[[Any], contextlib.AbstractContextManager[Any]]]] = {
    "jax_enable_x64": (False, jax.enable_x64),
    "jax_numpy_dtype_promotion": ("standard", jax.numpy_dtype_promotion),
    "jax_numpy_rank_promotion": ("allow", jax.numpy_rank_promotion),
    "jax_default_matmul_precision": (None, jax.default_matmul_precision),
    "jax_default_prng_impl": ("threefry2x32", jax.default_prng_impl),
    "jax_threefry_partitionable": (True, jax.threefry_partitionable),
    "jax_debug_nans": (False, jax.debug_nans),
    "jax_debug_infs": (False, jax.debug_infs),
    "jax_disable_jit": (False, jax.disable_jit),
}
# Nothing public sets it for a while.
_SEED_OFFSET = "jax_random_seed_offset"
_settings_of = operator.attrgetter(*_SETTINGS, _SEED_OFFSET)
_DEFAULTS = (*(default for default, _ in _SETTINGS.values()), 0)
_AS_IT_IS = contextlib.nullcontext()
# A mesh of a person's own (`jax.set_mesh`) would cut arrays that are to lie on one device.
_NO_MESH = Mesh(np.empty((), object), ())


def default_settings() -> contextlib.AbstractContextManager[Any]:
    """A context of JAX's default settings, and without a mesh, whatever a person's program has set.

    Programs are traced, compiled and run in it, so that the same rows give the same bits in
    any program. It costs next to nothing where the settings are JAX's own.

    Raises:
        InputError: if a setting is another one that no context can set back.
    """
    set_now = _settings_of(jax.config)
    no_mesh = get_abstract_mesh().empty
    if set_now == _DEFAULTS and no_mesh:
        return _AS_IT_IS
    if set_now[-1] != 0:
        raise InputError(f"{_SEED_OFFSET} is {set_now[-1]}; allowed: 0, JAX's default")
    contexts = contextlib.ExitStack()
    if not no_mesh:
        contexts.enter_context(jax.set_mesh(_NO_MESH))
    for (default, context), value in zip(_SETTINGS.values(), set_now, strict=False):
        if value != default:
            contexts.enter_context(context(default))
    return contexts


_guards_of = operator.attrgetter(
    "jax_transfer_guard_host_to_device",
    "jax_transfer_guard_device_to_device",
    "jax_transfer_guard_device_to_host",
)
_NO_GUARDS = (None, None, None)


def transfers_allowed() -> contextlib.AbstractContextManager[Any]:
    """A context in which NumPy's arrays go to a device and back without being put there.

    As `default_settings`, it costs next to nothing where there is nothing to set.
    """
    return _AS_IT_IS if _guards_of(jax.config) == _NO_GUARDS else jax.transfer_guard("allow")


# Process ids of this fork and its parent, where JAX had begun to compute before the fork.
_forked: tuple[int, int] | None = None


def _note_fork() -> None:
    global _forked
    # JAX has no public word for it, and its own takes a lock that a thread may have held.
    started = getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", None)
    if started or _forked:
        _forked = (os.getpid(), os.getppid())


if hasattr(os, "register_at_fork"):  # Windows doesn't fork.
    os.register_at_fork(after_in_child=_note_fork)


def check_own_process() -> None:
    """Refuse to compute in a fork that lacks the threads of its parent's JAX: it would never end.

    Raises:
        InputError: if JAX had begun to compute when this process was forked.
    """
    if _forked:
        raise InputError(
            f"process {_forked[0]} was forked from process {_forked[1]}, where JAX had begun to "
            "compute, and lacks its threads; allowed: a process that was started by spawn "
            '(multiprocessing.get_context("spawn")), or forked before anything was computed'
        )


def compiler_options(
    precision: Precision,
    jit: Callable[..., Any],
    *,
    one_thread: bool = False,
) -> CompilerOptions | None:
    """Compiler options for programs whose products have inputs of one precision, or None.

    Args:
        precision: of the products.
        jit: what compiles, handed in by the one file that may compile.
        one_thread: run on one thread of a CPU.
    """
    if jax.default_backend() != "cpu":
        return None
    options: CompilerOptions = dict(_ONE_THREAD) if one_thread else {}
    if precision != "bfloat16" and _is_known(jit):
        options |= _FLOAT32_ON_CPU
    return options or None


def shapes_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """Shapes and types of what a function gives, as `jax.ShapeDtypeStruct`; nothing is computed."""
    with default_settings():
        return jax.eval_shape(function, *arguments)


@functools.cache
def _is_known(jit: Callable[..., Any]) -> bool:
    """Whether this release of XLA knows the option; experimental ones come and go."""
    try:
        jit(lambda x: x, compiler_options=_FLOAT32_ON_CPU).lower(0.0).compile()
    except Exception:  # The type of this error is not part of JAX's public interface.
        return False
    return True
