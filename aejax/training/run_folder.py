"""A run's folder: whose it is, whether it is finished, and what may happen to it.

run.json   what the run computes: configuration, schema, fingerprint of the data.
           Written first; a run with another content is refused.
config.json, history.jsonl, checkpoints/, detector/, metrics.json, report.html, plots/
rows/      rows that don't fit in memory, while the run trains; of the input, whatever the run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from aejax.config import Config, InputError, read_json, to_dict, write_config
from aejax.data.schema import Schema
from aejax.data.spool import ASIDE, SPOOL

IDENTITY = "run.json"
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
            difference = _difference(read_json(path, MAX_BYTES), identity)
            if difference is None:
                return True
            raise InputError(
                f"{folder} already holds another run ({difference}); "
                "allowed: another folder, or --overwrite to replace it"
            )
    else:
        check_free(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / (IDENTITY + ".writing")
    aside.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)
    if config is not None:
        write_config(config, folder / "config.json")
    return False


def check_free(folder: Path) -> None:
    """Refuse a folder that holds files but no run; rows copied for one are no such files."""
    if not folder.is_dir() or (folder / IDENTITY).is_file():
        return
    if any(entry.name not in (SPOOL, ASIDE) for entry in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no run; allowed: a new or empty folder")


def _empty(folder: Path) -> None:
    # The identity goes first: whatever stops this half-way, no run is left that looks whole.
    (folder / IDENTITY).unlink()
    for entry in folder.iterdir():
        if entry.name == SPOOL:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _difference(found: Any, wanted: Any, name: str = "") -> str | None:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            inner = _difference(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
            if inner is not None:
                return inner
        return None
    if found == wanted:
        return None
    return f"{name} is {_short(found)} there and {_short(wanted)} here"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
