"""Several processes that train one model: how they find each other, and what they agree on.

Every process runs the same program on its share of each batch (`aejax.core.mesh`). What only
one process knows must be agreed on, or they part ways: a request to stop, that a checkpoint is
due. With one process every function here does nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any, cast

import jax
import numpy as np

from aejax.config import InputError
from aejax.core import steps
from aejax.core.mesh import Placement

COORDINATOR, PROCESSES, PROCESS = "AEJAX_COORDINATOR", "AEJAX_PROCESSES", "AEJAX_PROCESS"
HEARTBEAT, START = "AEJAX_HEARTBEAT_SECONDS", "AEJAX_START_SECONDS"
# In errors of collectives and of the coordination service, which have no types of their own.
WORDS_OF_LOSS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "coordination")
# The first process calibrates and reports while the others wait for it at the end.
MOST_SECONDS_AT_END = 24 * 3600


def join(environment: Mapping[str, str] = os.environ) -> None:
    """Find the other processes; called before JAX is used for anything else.

    `AEJAX_COORDINATOR` (host:port of the first process), `AEJAX_PROCESSES` (how many) and
    `AEJAX_PROCESS` (which this is, from 0) say who takes part. Where they aren't set, JAX looks
    for a scheduler that says it: Slurm, Open MPI, a Cloud TPU, Kubernetes.
    `AEJAX_START_SECONDS` (300) is how long to wait for the others, `AEJAX_HEARTBEAT_SECONDS`
    (100) how long a process may be silent before it counts as lost.

    Raises:
        InputError: if a variable is missing or no number, or the others aren't found in time.
    """
    who: dict[str, Any] = {}
    if COORDINATOR in environment:
        count = _whole(environment, PROCESSES, None, least=1)
        number = _whole(environment, PROCESS, None, least=0)
        if number >= count:
            raise InputError(f"{PROCESS} is {number}; allowed: 0 to {count - 1}")
        who = {
            "coordinator_address": environment[COORDINATOR],
            "num_processes": count,
            "process_id": number,
            "cluster_detection_method": "deactivate",
        }
    start = _whole(environment, START, 300, least=1)
    heartbeat = _whole(environment, HEARTBEAT, 100, least=1)
    try:
        jax.distributed.initialize(
            **who,
            initialization_timeout=start,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=MOST_SECONDS_AT_END,
        )
    except ValueError as error:
        raise InputError(
            f"several processes are asked for, but {_first_line(error)}; allowed: {COORDINATOR}, "
            f"{PROCESSES} and {PROCESS} set, or a scheduler that JAX knows, such as Slurm"
        ) from None
    except RuntimeError as error:
        raise InputError(
            f"the other processes were not found in {start} s: {_first_line(error)}; "
            f"allowed: all of them started with one {COORDINATOR}"
        ) from None


def _whole(environment: Mapping[str, str], name: str, default: int | None, *, least: int) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdigit() or int(text) < least:
        raise InputError(f"{name} is {text!r}; allowed: a whole number, at least {least}")
    return int(text)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def are_joined() -> bool:
    """Whether `join` was called; asking starts no backend."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Whether this process writes what only one may write."""
    return not are_joined() or jax.process_index() == 0


def name() -> str:
    """Which process this is, in words, or "" where it is the only one."""
    if not are_joined():
        return ""
    return f"process {jax.process_index()} of {jax.process_count()}"


def lost(error: Exception) -> bool:
    """Whether an error says that computing together with other processes failed."""
    if not are_joined() or not isinstance(error, jax.errors.JaxRuntimeError):
        return False
    return any(word in str(error) for word in WORDS_OF_LOSS)


def check_same(described: str) -> None:
    """Refuse to go on where processes differ in settings or rows.

    Args:
        described: these, equal in all processes that belong together.

    Raises:
        InputError: in every process.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(described.encode()).digest(), np.uint8)
    digests = _gathered(digest)
    others = [number for number, other in enumerate(digests) if np.any(other != digests[0])]
    if others:
        raise InputError(
            f"process {others[0]} has other settings or rows than process 0; "
            "allowed: the same everywhere"
        )


def _gathered(x: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return cast(np.ndarray, multihost_utils.process_allgather(x))


class Agreement:
    """Has all processes go on alike where each alone might decide otherwise, by its clock, say.

    Of several processes any may say yes; all hear of it one call later, because an answer at
    once would have every process wait for its device.

    Args:
        place: the devices that compute together.
    """

    def __init__(self, place: Placement) -> None:
        self._place = place
        self._said: Any = None

    def __call__(self, *said: bool) -> list[bool]:
        """What any process says to each question; of several processes, said a call before."""
        if self._place.processes == 1:
            return list(said)
        before = self._said
        flags = np.tile(np.array(said), (self._place.devices, 1))
        self._said = steps.compiled_any(self._place.rows(self._place.share(flags)), axis=0)
        return [False] * len(said) if before is None else list(map(bool, jax.device_get(before)))
