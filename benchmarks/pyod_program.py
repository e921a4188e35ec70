"""What a PyOD user runs to score a CSV file; `startup.py` and `stream.py` time it as a whole.

    python pyod_program.py fit MODEL ROWS.csv
    python pyod_program.py score MODEL ROWS.csv SCORES.csv

Only the imports that it needs, none of aejax's.
"""

from __future__ import annotations

import sys

import pandas as pd
from pyod.models.auto_encoder import AutoEncoder


def main() -> None:
    """Fit a model on a file and save it, or load it and score a file."""
    todo, model, source = sys.argv[1:4]
    rows = pd.read_csv(source, dtype="float32").to_numpy()
    if todo == "fit":
        AutoEncoder(hidden_neuron_list=[32, 16, 8], epoch_num=1, verbose=0).fit(rows).save(model)
        return
    # Its documented way of loading; run here on the file that it wrote a moment ago.
    scores = AutoEncoder.load(model).decision_function(rows, batch_size=1024)
    pd.DataFrame({"score": scores}).to_csv(sys.argv[4], index=False)


if __name__ == "__main__":
    main()
