"""Arrays by name in one file that `numpy.load` reads too: stored as they are, nothing pickled."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from aejax.config import InputError

BYTES_AT_ONCE = 1 << 24


def pack(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an uncompressed npz file; equal arrays make equal bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # Made so, an entry has no time of its own.
            entry = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), allow_pickle=False)


def unpack(file: IO[bytes], like: Mapping[str, Any], where: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file that holds exactly what is expected.

    Args:
        file: opened for reading.
        like: name -> what has the array's shape and dtype.
        where: the file, for messages.

    Raises:
        InputError: if names, shapes or types differ, or entries are compressed or damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            wanted = {f"{name}.npy" for name in like}
            if entries.keys() != wanted or len(archive.infolist()) != len(wanted):
                wrong = sorted(entries.keys() ^ wanted)
                raise InputError(f"{where}: arrays differ from the model's: {wrong[:3]}")
            for name in like:
                entry = entries[f"{name}.npy"]
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                    raise InputError(f"{where}: {name} is compressed; allowed: stored arrays")
            return {
                name: _array(archive, entries[f"{name}.npy"], shaped, f"{where}: {name}")
                for name, shaped in like.items()
            }
    except InputError:
        raise
    # NotImplementedError: an entry of a kind that zipfile doesn't read. RuntimeError: so too.
    except (
        zipfile.BadZipFile,
        ValueError,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise InputError(f"{where} is no readable npz file: {error}") from None


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, like: Any, name: str) -> np.ndarray:
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise InputError(f"{name} is npy format {version}; allowed: (1, 0)")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        if (
            shape != tuple(like.shape)
            or dtype != np.dtype(like.dtype)
            or (fortran and len(shape) > 1)
        ):
            raise InputError(
                f"{name} is {dtype}{list(shape)}; allowed: {like.dtype}{list(like.shape)}"
            )
        array = np.empty(shape, dtype)
        if entry.file_size - member.tell() != array.nbytes:
            raise InputError(
                f"{name} has {entry.file_size - member.tell()} bytes of values; "
                "allowed: those of its shape"
            )
        values, filled = array.reshape(-1).view(np.uint8).data, 0
        # To the end of the entry: only there does zipfile compare its checksum.
        while piece := member.read(BYTES_AT_ONCE):
            values[filled : filled + len(piece)] = piece
            filled += len(piece)
    if filled != array.nbytes:
        raise EOFError(f"{name} ends after {filled} of {array.nbytes} bytes")
    return array
