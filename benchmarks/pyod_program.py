"""What a PyOD user runs to score files; `startup.py` and `stream.py` time it.

    python pyod_program.py fit MODEL ROWS.csv
    python pyod_program.py score MODEL ROWS.csv SCORES.csv
    python pyod_program.py blocks MODEL ROWS.parquet SCORES.parquet MOST_ROWS

Only the imports that it needs, none of aejax's.
"""

from __future__ import annotations

import json
import sys
import time

import pandas as pd
from pyod.models.auto_encoder import AutoEncoder

BLOCK_ROWS = 1 << 16


def blocks(model: str, source: str, out: str, most: int) -> None:
    """Score a Parquet file block by block, and say how long the loop took."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    detector = AutoEncoder.load(model)
    schema = pa.schema([("score", pa.float64())])
    done = 0
    started = time.perf_counter()
    with pq.ParquetFile(source) as file, pq.ParquetWriter(out, schema) as writer:
        for batch in file.iter_batches(batch_size=BLOCK_ROWS):
            rows = batch.to_pandas().to_numpy("float32")[: most - done]
            scores = detector.decision_function(rows, batch_size=1024)
            writer.write_table(pa.table({"score": scores}, schema=schema))
            done += len(rows)
            if done == most:
                break
    json.dump({"rows": done, "seconds": time.perf_counter() - started}, sys.stdout)


def main() -> None:
    """Fit a model on a file and save it, or load it and score a file."""
    todo, model, source = sys.argv[1:4]
    if todo == "blocks":
        blocks(model, source, sys.argv[4], int(sys.argv[5]))
        return
    rows = pd.read_csv(source, dtype="float32").to_numpy()
    if todo == "fit":
        AutoEncoder(hidden_neuron_list=[32, 16, 8], epoch_num=1, verbose=0).fit(rows).save(model)
        return
    # Its documented way of loading; run here on the file that it wrote a moment ago.
    scores = AutoEncoder.load(model).decision_function(rows, batch_size=1024)
    pd.DataFrame({"score": scores}).to_csv(sys.argv[4], index=False)


if __name__ == "__main__":
    main()
