"""Write the files that the quick start speaks of: readings of pumps, some of them broken.

    python scripts/sample_data.py [FOLDER]

writes train.csv and holdout.csv (normal rows), today.parquet (rows to judge), labels.csv (which of
these are broken) and space.toml (settings to search).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

BROKEN = 20
SPACE = """\
[train.learning_rate]
low = 1e-4
high = 1e-2
log = true
"""


def readings(count: int, seed: int) -> pd.DataFrame:
    """Readings of as many pumps, which rise and fall with the load, each in its own unit."""
    random = np.random.default_rng(seed)
    load = random.normal(size=count)
    noise = random.normal(size=(4, count))
    return pd.DataFrame(
        {
            "pump_id": [f"P{seed}{number:05d}" for number in range(count)],
            "temperature": 60 + 5 * load + noise[0],
            "pressure": 1013 + 20 * load + 4 * noise[1],
            "flow": 0.5 + 0.05 * load + 0.01 * noise[2],
            "power": 2000 + 150 * load + 30 * noise[3],
        }
    ).round(4)


def write(folder: Path) -> None:
    """Write all files into a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    readings(3000, seed=1).to_csv(folder / "train.csv", index=False)
    readings(2000, seed=2).to_csv(folder / "holdout.csv", index=False)
    today = readings(1000, seed=3)
    random = np.random.default_rng(4)
    broken = np.sort(random.choice(len(today), BROKEN, replace=False))
    # They run hot, or give less than their power should.
    today.loc[broken[::2], "temperature"] += 12
    today.loc[broken[1::2], "flow"] -= 0.12
    today.to_parquet(folder / "today.parquet", index=False)
    labels = today[["pump_id"]].assign(broken=np.isin(np.arange(len(today)), broken).astype(int))
    labels.to_csv(folder / "labels.csv", index=False)
    (folder / "space.toml").write_text(SPACE, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
