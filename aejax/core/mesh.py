"""Devices: batches are cut over them, everything else lies on each.

Programs are written, and mean the same, as if there were one device: a mean over a batch is
one over the whole batch. Where arrays lie decides what runs where, and XLA puts in the sums
over devices (jax.sharding, "computation follows data"). So nothing that is compiled knows
of devices, and a program for one device is the one without a mesh.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aejax.config import InputError
from aejax.models.backend import check_own_process, default_settings

AXIS = "data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the arrays of a program lie.

    Attributes:
        mesh: one axis over the devices, those of a process side by side; None is JAX's
            default device.
    """

    mesh: Mesh | None = None

    @property
    def devices(self) -> int:
        """How many devices share a batch, those of all processes together."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def processes(self) -> int:
        """How many processes share a batch."""
        return 1 if self.mesh is None else len({d.process_index for d in self.mesh.devices.flat})

    def everywhere(self, tree: object) -> Any:
        """Arrays that every device holds whole; processes must hand in equal ones."""
        return self._put(tree, None)

    def rows(self, tree: object, axis: int = 0) -> Any:
        """Arrays whose rows are cut over the devices.

        Args:
            tree: NumPy arrays; of several processes, each hands in its `share`.
            axis: along which rows follow each other; its size is a multiple of `devices`.
        """
        return self._put(tree, axis)

    def share(self, x: np.ndarray, axis: int = 0) -> np.ndarray:
        """The part of a batch that this process hands to `rows`: a view."""
        if self.processes == 1:
            return x
        size = x.shape[axis] // self.processes
        start = jax.process_index() * size
        return x[(slice(None),) * axis + (slice(start, start + size),)]

    def padded(self, tiles: np.ndarray) -> np.ndarray:
        """Tiles [n, rows, ...], so filled up that every device gets as many rows as any other."""
        widths = [(0, 0)] * tiles.ndim
        widths[1] = (0, -tiles.shape[1] % self.devices)
        return np.pad(tiles, widths) if widths[1][1] else tiles

    def _put(self, tree: object, axis: int | None) -> Any:
        check_own_process()
        if self.mesh is None:
            with default_settings():
                return jax.device_put(tree)
        spec = PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)
        sharding = NamedSharding(self.mesh, spec)
        if self.processes == 1:
            with default_settings():
                return jax.device_put(tree, sharding)
        own = [d for d in self.mesh.devices.flat if d.process_index == jax.process_index()]

        def one(x: np.ndarray) -> jax.Array:
            # JAX's function for this copies implicitly, which a transfer guard forbids.
            shape, parts = list(x.shape), [x] * len(own)
            if axis is not None:
                shape[axis] *= self.processes
                parts = np.split(x, len(own), axis)
            placed = [jax.device_put(part, d) for part, d in zip(parts, own, strict=True)]
            return jax.make_array_from_single_device_arrays(tuple(shape), sharding, placed)

        with default_settings():
            return jax.tree.map(lambda x: one(np.asarray(x)), tree)


ONE_DEVICE = Placement()


def on_device(device: jax.Device, tree: object) -> Any:
    """Arrays that lie on one device."""
    check_own_process()
    with default_settings():
        return jax.device_put(tree, device)


def local_devices(devices: int | None) -> list[jax.Device]:
    """The devices of this process, or the first so many of them.

    Raises:
        InputError: if there are not so many.
    """
    return _chosen(jax.local_devices(), devices)


def on_devices(devices: int | None) -> Placement:
    """A batch over devices of this process.

    Args:
        devices: how many; None takes all.

    Raises:
        InputError: if there are not so many.
    """
    return _over(local_devices(devices))


def on_all_processes(devices: int | None) -> Placement:
    """A batch over devices of all processes, which compute one program together.

    Args:
        devices: how many of each process; None takes all.

    Raises:
        InputError: if there are not so many.
    """
    chosen = []
    for process in range(jax.process_count()):
        own = [device for device in jax.devices() if device.process_index == process]
        chosen += _chosen(own, devices)
    return _over(chosen)


def one_copy(tree: object) -> Any:
    """Arrays that lie on every device, as arrays of one device; nothing is copied."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _chosen(present: list[jax.Device], devices: int | None) -> list[jax.Device]:
    if devices is not None and not 1 <= devices <= len(present):
        raise InputError(
            f"devices is {devices}; allowed: 1 to {len(present)}, "
            f"the {present[0].platform} devices of this process"
        )
    return present[:devices]


def _over(devices: list[jax.Device]) -> Placement:
    # A mesh of the default device alone would only make arrays slower to place.
    if len(devices) == 1:
        return ONE_DEVICE
    return Placement(mesh=Mesh(np.array(devices), (AXIS,)))
