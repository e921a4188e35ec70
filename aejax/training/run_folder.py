"""A run's folder: whose it is, whether it is finished, and what may happen to it.

run.json   what the run computes: configuration, schema, fingerprint of the data.
           Written first; a run with another content is refused.
config.json, history.jsonl, checkpoints/, detector/, metrics.json, report.html, plots/
parts/     groups that are trained, while others aren't yet.
rows/      rows that don't fit in memory, while the run trains; of the input, whatever the run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from aejax.config import Config, InputError, read_json, to_dict, write_config
from aejax.config.durable import aside_of, make_folder, refused_as_input, write_file
from aejax.data.schema import Schema
from aejax.data.spool import ASIDE, SPOOL

IDENTITY = "run.json"
# What the identity is called while the run is removed.
REMOVING = "run.json.removing"
CONFIG = "config.json"
MAX_BYTES = 16 << 20


def claim(
    folder: Path,
    config: Config | None,
    schema: Schema | None,
    data: dict[str, Any],
    *,
    overwrite: bool = False,
) -> bool:
    """Make a folder this run's own, or find that it already is.

    Args:
        folder: created where it doesn't exist.
        config: all settings; None where a run takes several.
        schema: of the rows; None where there are rows of several kinds.
        data: what else decides the result: fingerprints of the rows, the recipe's name.
        overwrite: replace another or a finished run; only a folder that holds a run is
            ever emptied.

    Returns:
        Whether the folder already held this very run, to be continued.

    Raises:
        InputError: if it holds another run or other files, naming the first difference.
    """
    described: dict[str, Any] = {"data": data}
    if config is not None:
        described["config"] = to_dict(config)
    if schema is not None:
        described["schema"] = schema.to_dict()
    identity = json.loads(json.dumps(described))
    path = folder / IDENTITY
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; allowed: a folder for the run")
    if path.is_file():
        if overwrite:
            _empty(folder)
        else:
            other = difference(read_json(path, MAX_BYTES), identity)
            if other is None:
                if config is not None and not (folder / CONFIG).is_file():
                    write_config(config, folder / CONFIG)
                return True
            raise InputError(
                f"{folder} already holds another run ({other}); "
                "allowed: another folder, or --overwrite to replace it"
            )
    elif (folder / REMOVING).is_file():
        # Somebody asked for it to be replaced, and the process ended before it was.
        _empty(folder)
    else:
        check_free(folder)
    make_folder(folder)
    write_file(path, json.dumps(identity, indent=2) + "\n")
    if config is not None:
        write_config(config, folder / CONFIG)
    return False


def check_config(folder: Path, config: Config) -> None:
    """Refuse a run of another configuration, naming the first difference; its rows may be any."""
    held, wanted = read_json(folder / IDENTITY, MAX_BYTES).get("config"), to_dict(config)
    other = difference(held, json.loads(json.dumps(wanted)), "config")
    if other is not None:
        raise InputError(
            f"{folder} holds another run ({other}); allowed: another folder, or --overwrite"
        )


def check_free(folder: Path) -> None:
    """Refuse a folder that holds files but no run.

    Rows copied for a run are no such files, nor is what a kill left of writing an identity.
    """
    if not folder.is_dir() or (folder / IDENTITY).is_file() or (folder / REMOVING).is_file():
        return
    free = (SPOOL, ASIDE, aside_of(folder / IDENTITY).name)
    if any(entry.name not in free for entry in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no run; allowed: a new or empty folder")


def _empty(folder: Path) -> None:
    # The identity goes first: whatever stops this half-way, no run is left that looks whole.
    # Under its other name it still says that this was a run, and may be removed.
    marker = folder / REMOVING
    with refused_as_input(folder):
        if not marker.is_file():
            (folder / IDENTITY).rename(marker)
        for entry in folder.iterdir():
            if entry == marker or entry.name == SPOOL:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        marker.unlink()


def difference(held: object, wanted: object, name: str = "") -> str | None:
    """Where two JSON-ready descriptions differ first, in words; None where they don't."""
    if isinstance(held, dict) and isinstance(wanted, dict):
        for key in sorted({*held, *wanted}):
            inner = difference(held.get(key), wanted.get(key), f"{name}.{key}" if name else key)
            if inner is not None:
                return inner
        return None
    if held == wanted:
        return None
    return f"{name} is {_short(held)} there and {_short(wanted)} here"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
