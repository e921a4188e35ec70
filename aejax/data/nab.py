"""Series of the Numenta Anomaly Benchmark, with the windows in which experts saw anomalies.

Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms: the Numenta anomaly benchmark",
ICMLA 2015; MIT licence. Not a part of this package: `$AEJAX_DATA_DIR/nab/` holds the folders of its
`data/` and `combined_windows.json` of its `labels/`.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aejax.config import InputError

ORIGIN = "https://github.com/numenta/NAB"


class NabSeries(NamedTuple):
    """A series of the benchmark.

    Attributes:
        times: of the points, datetime64[s] [n].
        values: float64 [n].
        is_anomaly: which points lie in a labelled window, bool [n].
    """

    times: np.ndarray
    values: np.ndarray
    is_anomaly: np.ndarray


def nab_folder() -> Path:
    """The folder of the series.

    Raises:
        InputError: if `AEJAX_DATA_DIR` isn't set.
    """
    if not (raw := os.environ.get("AEJAX_DATA_DIR")):
        raise InputError(
            f"AEJAX_DATA_DIR is not set; allowed: a folder with nab/, the data of {ORIGIN}"
        )
    return Path(raw) / "nab"


def load_nab(name: str, rows: int | None = None) -> NabSeries:
    """One series.

    Args:
        name: its file, as the benchmark's windows name it.
        rows: how many of the first; None takes all.

    Raises:
        InputError: if the files aren't there or aren't the benchmark's.
    """
    folder = nab_folder()
    try:
        windows = json.loads((folder / "combined_windows.json").read_text(encoding="utf-8"))[name]
        with (folder / name).open(encoding="utf-8", newline="") as text:
            lines = list(csv.DictReader(text))[:rows]
        times = np.array([line["timestamp"] for line in lines], "datetime64[s]")
        values = np.array([float(line["value"]) for line in lines])
        flags = np.zeros(len(lines), bool)
        for first, last in windows:
            ends = np.array([first[:19], last[:19]], "datetime64[s]")
            flags |= (times >= ends[0]) & (times <= ends[1])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder / name} can't be read ({error}); see {ORIGIN}") from error
    return NabSeries(times, values, flags)
