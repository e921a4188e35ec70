"""Rows from standard input, pipes and addresses are those of the same file here."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aejax.config import InputError
from aejax.data.files import read

TABLE = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc"))
CODE = """
import sys, numpy as np
from aejax.data.files import open_rows, read
first, second = read(sys.argv[1])[0], read(sys.argv[1])[0]
assert np.array_equal(first, second)
print(open_rows(sys.argv[1]).parts[0].name, first.sum())
"""


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "jsonl", "feather"])
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_standard_input(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    match kind:
        case "csv":
            TABLE.to_csv(path, index=False)
        case "csv.gz":
            path.write_bytes(gzip.compress(TABLE.to_csv(index=False).encode()))
        case "jsonl":
            TABLE.to_json(path, orient="records", lines=True, double_precision=15)
        case _:
            getattr(TABLE, f"to_{kind}")(path)
    done = subprocess.run(
        [sys.executable, "-c", CODE, name], input=path.read_bytes(), capture_output=True, check=True
    )
    called, total = done.stdout.decode().split()
    assert called == "stdin"
    assert float(total) == pytest.approx(float(read(path)[0].sum()))
    assert not done.stderr


def test_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["sh", "-c", f"printf 'a,b\\n1,2\\n3,4\\n' > {pipe}"])
    np.testing.assert_array_equal(read(pipe)[0], [[1, 2], [3, 4]])
    assert writer.wait() == 0


def test_an_address_of_any_store(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for at in range(2):
        with store.open(f"/bucket/day={at}/part.csv", "wb") as file:
            TABLE[at * 25 :][:25].to_csv(file, index=False)
    with store.open("/bucket/_SUCCESS", "wb"):
        pass
    x, _, schema = read("memory://bucket")
    assert schema.names == ("a", "b", "c", "day")
    np.testing.assert_allclose(x[:, :3], TABLE.to_numpy(np.float32), rtol=1e-6)
    np.testing.assert_array_equal(x[:, 3], np.repeat([0, 1], 25))
    # A Path has one slash less.
    np.testing.assert_array_equal(read(Path("memory://bucket/day=1/part.csv"))[0], x[25:, :3])
    with pytest.raises(InputError, match=r"memory://bucket/none does not exist|cannot be read"):
        read("memory://bucket/none")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("https://example.org/d.csv", r"curl -sL https://example.org/d.csv \| aejax"),
        ("file:///data/d.csv", "allowed for a file that is here: /data/d.csv"),
        ("nowhere://d.csv", "nowhere://d.csv cannot be read|no such store"),
    ],
)
def test_what_is_not_copied_says_how(address: str, message: str) -> None:
    for name in (address, Path(address)):
        with pytest.raises(InputError, match=message):
            read(name)
