"""What a Keras user runs to score a CSV file; `startup.py` times it as a whole.

    python keras_program.py fit MODEL.keras ROWS.csv
    python keras_program.py score MODEL.keras ROWS.csv SCORES.csv

Only the imports that it needs, none of aejax's.
"""

from __future__ import annotations

import sys

import keras
import numpy as np
import pandas as pd


def main() -> None:
    """Fit a model on a file and save it, or load it and score a file."""
    todo, place, source = sys.argv[1:4]
    rows = pd.read_csv(source, dtype="float32").to_numpy()
    if todo == "fit":
        hidden = [keras.layers.Dense(width, "relu") for width in (32, 16, 8, 16, 32)]
        output = keras.layers.Dense(rows.shape[1])
        model = keras.Sequential([keras.Input(rows.shape[1:]), *hidden, output])
        model.compile(optimizer="adam", loss="mse")
        model.fit(rows, rows, epochs=1, verbose=0)
        model.save(place)
        return
    found = keras.models.load_model(place).predict(rows, batch_size=1024, verbose=0)
    scores = np.mean(np.square(rows - found), axis=1)
    pd.DataFrame({"score": scores}).to_csv(sys.argv[4], index=False)


if __name__ == "__main__":
    main()
