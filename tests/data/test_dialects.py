"""Text tables as the world writes them mean what pandas makes of the same numbers."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from aejax.config import Columns, Dialect, InputError
from aejax.data.files import open_rows, read
from aejax.data.inference import infer_schema_of_files
from aejax.data.labels import read_labels
from aejax.data.number_text import numbers_of_text
from aejax.data.rows import Selection
from aejax.data.schema import Schema

ROWS = np.random.default_rng(0).normal(5, 1, (80, 3)).round(3)
TABLE = pd.DataFrame(ROWS, columns=["Druck", "temp", "strom"])
MIXED = Columns(kinds="mixed")


def csv(**how: object) -> str:
    return TABLE.to_csv(index=False, **how)


def lines(change: Callable[[int, str], str], text: str = "") -> str:
    return "".join(change(at, line) + "\n" for at, line in enumerate((text or csv()).splitlines()))


PLAIN = csv()
HEADER = PLAIN.splitlines()[0]
TEXTS = {
    "semicolons": csv(sep=";"),
    "decimal commas": csv(sep=";", decimal=","),
    "tabs": csv(sep="\t"),
    "tabs and decimal commas": csv(sep="\t", decimal=","),
    "bars": csv(sep="|"),
    "quoted decimal commas": csv(decimal=",", quoting=1),
    "quoted": csv(quoting=1),
    "aligned with spaces": TABLE.to_string(index=False),
    "lines end as on Windows": csv(lineterminator="\r\n"),
    "lines end as on old Macs": csv(lineterminator="\r"),
    "spaces after commas": PLAIN.replace(",", ", "),
    "a delimiter after each line": lines(lambda at, line: line + ","),
    "two delimiters after each line": lines(lambda at, line: line + ";;", csv(sep=";")),
    "a delimiter after each row only": lines(lambda at, line: line + "," * (at > 0)),
    "comments above": "# pump 3\n# 2026\n" + PLAIN,
    "comments between": lines(lambda at, line: line if at % 20 else "# at\n" + line),
    "a title above": "Report of pump 3\nCreated: 2026-01-01, 10:00\n\n" + PLAIN,
    "units below": lines(lambda at, line: line if at else line + "\nbar,°C,A"),
    "units in brackets": lines(lambda at, line: line if at else line + "\n[bar],[C],[A]"),
    "names twice": HEADER + "\n" + PLAIN,
    "what Excel writes": "sep=;\n" + csv(sep=";"),
    "names in a comment, as NumPy": "# " + PLAIN,
    "empty lines at the end": PLAIN + "\n\n\n",
    "no line end": PLAIN.rstrip("\n"),
    "signs": lines(lambda at, line: line if not at else "+" + line),
}
NUMBERS: dict[str, tuple[str, float | None]] = {
    "thousands": ("1,234.5", 1234.5),
    "Swiss thousands": ("1'234.5", 1234.5),
    "a thin space": ("1\u202f234.5", 1234.5),
    "a space": ("1 234 567", 1234567.0),
    "lakhs": ("12,34,567.5", 1234567.5),
    "parentheses": ("(1,234.5)", -1234.5),
    "a trailing minus": ("12.5-", -12.5),
    "a typographic minus": ("\u22125", -5.0),
    "percent": ("12.5 %", 0.125),
    "a currency": ("$1,234.50", 1234.5),
    "euros": ("12 €", 12.0),
    "exponent": ("1.5E+03", 1500.0),
    "no number": ("12 kPa", None),
    "an underscore": ("1_000", None),
    "a fraction with commas": ("1,2345", None),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_table_is_read_however_it_is_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(TEXTS[name], encoding="utf-8", newline="")
    for selection in (Selection(), Selection(bad_cells="null")):
        x, _, schema = read(path, selection)
        assert schema.names == tuple(TABLE)
        np.testing.assert_array_equal(x, ROWS.astype(np.float32))
    for settings in (Columns(), MIXED):
        trained = infer_schema_of_files(path, Selection(), settings)
        assert trained is not None
        assert trained.names == tuple(TABLE)
        assert trained.columns is None or {c.kind for c in trained.columns} == {"number"}
        x, _, _ = read(path, expected=trained)
        np.testing.assert_allclose(x, ROWS.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_as_people_write_them(name: str) -> None:
    cell, wanted = NUMBERS[name]
    found, wrong = numbers_of_text(pa.array([cell, "1.5", None, "?"]))
    assert found.to_pylist() == [wanted, 1.5, None, None]
    assert wrong.to_pylist() == [wanted is None, False, False, False]
    swapped = cell.translate(str.maketrans(",.", ".,"))
    found, wrong = numbers_of_text(pa.array([swapped]), ",")
    assert found.to_pylist() == [wanted]
    assert wrong.to_pylist() == [wanted is None]


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("word", ["?", "-", "NaN", "unknown", "NULL", "N/A", "  ", "", "#DIV/0!"])
def test_words_for_a_missing_number(word: str, late: bool, tmp_path: Path) -> None:
    made = TABLE.astype(object)
    made.loc[70 if late else 1, "temp"] = word
    made.to_csv(tmp_path / "rows.csv", index=False)
    schema = infer_schema_of_files(tmp_path / "rows.csv", Selection(), MIXED)
    assert schema is not None
    assert [column.kind for column in schema.columns or ()] == ["number"] * 3
    x, _, _ = read(tmp_path / "rows.csv", expected=schema)
    assert np.argwhere(np.isnan(x)).tolist() == [[70 if late else 1, 1]]


def test_words_of_ones_own_for_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "".join(f"{at},{'xy'[at % 2]}\n" for at in range(9)) + "off,off\n")
    chosen = Selection(dialect=Dialect(missing=("off",)))
    schema = infer_schema_of_files(path, chosen, MIXED)
    assert schema is not None
    assert [column.kind for column in schema.columns or ()] == ["number", "category"]
    assert set(schema.columns[1].categories if schema.columns else ()) == {"x", "y"}
    (block,) = open_rows(path, chosen, schema).blocks(100)
    assert np.isnan(block.x[-1]).all()


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    made = TABLE.rename(columns={"temp": "Höhe"}).assign(ort=["Köln", "Ulm"] * 40)
    path = tmp_path / "rows.csv"
    made.to_csv(path, index=False, encoding=encoding)
    schema = infer_schema_of_files(path, Selection(), MIXED)
    assert schema is not None
    assert schema.names == ("Druck", "Höhe", "strom", "ort")
    assert schema.columns is not None
    assert schema.columns[3].categories == ("Köln", "Ulm")
    x, _, _ = read(path, expected=schema)
    np.testing.assert_array_equal(x[:, :3], ROWS.astype(np.float32))
    np.testing.assert_array_equal(x[:, 3], np.arange(80) % 2)


def test_an_encoding_that_cannot_be_known_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    TABLE.rename(columns={"temp": "Давление"}).to_csv(path, index=False, encoding="cp1251")
    with pytest.raises(InputError, match="--encoding cp1251"):
        read(path)
    _, _, schema = read(path, Selection(dialect=Dialect(encoding="cp1251")))
    assert schema.names == ("Druck", "Давление", "strom")


@pytest.mark.parametrize(
    ("first", "suffix"),
    [
        (gzip.compress(b"a,b", mtime=0), ".gz"),
        (b"\x28\xb5\x2f\xfd", ".zst"),
        (b"PK\3\4", ".zip"),
        (b"PAR1", ".parquet"),
    ],
)
def test_another_format_by_the_name_of_text_is_named(
    first: bytes, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(first + bytes(3000) + b"\xff\x81")
    with pytest.raises(InputError, match=rf"rows\.csv holds no text but begins as .* \{suffix} do"):
        open_rows(path)


def test_a_thousand_or_a_fraction_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n"5,189","4,477"\n"1,500","2,250"\n')
    with pytest.raises(InputError, match=r"may be a thousand or a fraction; allowed: --decimal"):
        read(path)
    for decimal, factor in ((".", 1000), (",", 1)):
        x, _, _ = read(path, Selection(dialect=Dialect(decimal=decimal)))  # type: ignore[arg-type]
        np.testing.assert_allclose(x, np.array([[5.189, 4.477], [1.5, 2.25]]) * factor, rtol=1e-6)


def test_one_decimal_point_for_all_files_however_rows_are_cut(tmp_path: Path) -> None:
    """A part with 1.234 only, a thousand and 234, says nothing by itself."""
    cells = ["1.234;2.500", "1,5;2,25", "3.000,5;1,0"]
    (tmp_path / "whole.csv").write_text("a;b\n" + "\n".join(cells) + "\n")
    (tmp_path / "parts").mkdir()
    for at, line in enumerate(cells):
        (tmp_path / "parts" / f"{at}.csv").write_text(f"a;b\n{line}\n")
    wanted = [[1234, 2500], [1.5, 2.25], [3000.5, 1]]
    trained = read(tmp_path / "whole.csv")[2]
    assert Schema.from_dict(json.loads(json.dumps(trained.to_dict()))).decimal == ","
    np.testing.assert_allclose(read(tmp_path / "whole.csv")[0], wanted)
    np.testing.assert_allclose(read(tmp_path / "parts")[0], wanted)
    # By itself it is read as training was.
    np.testing.assert_allclose(read(tmp_path / "parts" / "0.csv", expected=trained)[0], wanted[:1])


def test_what_was_found_out_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for at in range(3):
        (tmp_path / f"{at}.csv").write_text(TEXTS["decimal commas"])
    with caplog.at_level(logging.WARNING, "aejax"):
        read(tmp_path)
        read(tmp_path)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "semicolons between cells, decimal commas. --delimiter" in said[0]


def test_names_again_in_the_middle_are_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(PLAIN + PLAIN)
    (block,) = open_rows(path, Selection(bad_cells="null")).blocks(1000)
    assert len(block.x) == 161
    assert list(block.bad) == [80]
    trained = infer_schema_of_files(path, Selection(), MIXED)
    assert trained is not None
    assert {column.kind for column in trained.columns or ()} == {"number"}


def test_codes_are_text_in_a_mixed_table(tmp_path: Path) -> None:
    """As they are where the file itself has types."""
    made = TABLE.assign(
        zip=[f"{at:05d}" for at in (1234, 50667)] * 40, house=["7", "12A", "3", "B3"] * 20
    )
    made.to_csv(tmp_path / "rows.csv", index=False)
    made.to_parquet(tmp_path / "rows.parquet")
    one, other = (
        infer_schema_of_files(tmp_path / f"rows.{kind}", Selection(), MIXED)
        for kind in ("csv", "parquet")
    )
    assert one == other
    np.testing.assert_array_equal(
        read(tmp_path / "rows.csv", expected=one)[0],
        read(tmp_path / "rows.parquet", expected=one)[0],
    )


def packed(path: Path, text: bytes) -> None:
    match path.suffix:
        case ".gz":
            path.write_bytes(gzip.compress(text))
        case ".bz2":
            path.write_bytes(bz2.compress(text))
        case ".xz":
            path.write_bytes(lzma.compress(text))
        case ".zst":
            with pa.CompressedOutputStream(str(path), "zstd") as file:
                file.write(text)
        case ".zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("rows.csv", text)
        case _:
            path.write_bytes(text)


@pytest.mark.parametrize(
    "name",
    [
        *("rows.tsv", "rows.txt", "rows.dat", "ROWS.CSV", "rows", "rows.gz"),
        *(f"rows.csv.{one}" for one in ("gz", "bz2", "xz", "zst", "zip")),
        *("rows.jsonl", "rows.ndjson", "rows.jsonl.gz"),
        *("rows.feather", "rows.arrow", "rows.arrow stream", "rows.pq", "rows parquet"),
    ],
)
def test_formats_and_packers(name: str, tmp_path: Path) -> None:
    path, arrow = tmp_path / name.split()[0], pa.Table.from_pandas(TABLE)
    if "jsonl" in name or "ndjson" in name:
        packed(path, TABLE.to_json(orient="records", lines=True, double_precision=15).encode())
    elif "feather" in name:
        TABLE.to_feather(path)
    elif "arrow" in name:
        new = pa.ipc.new_stream if "stream" in name else pa.ipc.new_file
        with new(str(path), arrow.schema) as writer:
            writer.write_table(arrow, 30)
    elif name in ("rows.pq", "rows parquet"):
        TABLE.to_parquet(path)
    else:
        packed(path, (csv(sep="\t") if "tsv" in name else PLAIN).encode())
    for settings in (Columns(), MIXED):
        schema = infer_schema_of_files(path, Selection(), settings)
        assert schema is not None
        x, _, _ = read(path, expected=schema)
        np.testing.assert_allclose(x, ROWS.astype(np.float32), rtol=1e-6)
    start = [block.first_row for block in open_rows(path).blocks(16, 40)]
    assert start == [40, 56, 72]


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "feather"])
def test_an_empty_part_has_no_rows(kind: str, tmp_path: Path) -> None:
    for at, made in enumerate((TABLE[:0], TABLE[:30], TABLE[:0], TABLE[30:])):
        path = tmp_path / f"{at}.{kind}"
        if kind == "jsonl":
            path.write_text(made.to_json(orient="records", lines=True) if len(made) else "")
        elif kind == "csv":
            made.to_csv(path, index=False)
        else:
            getattr(made.reset_index(drop=True), f"to_{kind}")(path)
    if kind == "csv":
        (tmp_path / "4.csv").touch()
    for settings in (Columns(), MIXED):
        schema = infer_schema_of_files(tmp_path, Selection(), settings)
        assert schema is not None
        x, _, _ = read(tmp_path, expected=schema)
        np.testing.assert_allclose(x, ROWS.astype(np.float32), rtol=1e-6)
    for nothing in ("0", "[02]"):
        with pytest.raises(InputError, match=r"0 rows; allowed: at least 1|is empty; allowed"):
            read(tmp_path / f"{nothing}.{kind}")


def test_labels_in_text_of_any_dialect(tmp_path: Path) -> None:
    text = "id;Größe\n" + "".join(f"{at:03d};{at % 2}\n" for at in range(8))
    (tmp_path / "labels.csv").write_bytes(text.encode("cp1252"))
    flags, keys = read_labels(
        tmp_path / "labels.csv", Selection(label_column="Größe"), keys=("id",)
    )
    assert flags.tolist() == [0, 1] * 4
    assert keys["id"].to_pylist()[:2] == ["000", "001"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delimiter", ";;"),
        ("delimiter", "a"),
        ("decimal", ";"),
        ("encoding", "klingon"),
        ("missing", "NA"),
        ("day_first", "yes"),
    ],
)
def test_a_dialect_checks_itself(field: str, value: object) -> None:
    with pytest.raises(InputError, match=rf"Dialect\.{field} is .*; allowed"):
        Dialect(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("share", "kept"), [(0.01, True), (0.5, False)])
def test_text_that_comes_late_in_a_column_of_numbers(
    share: float, kept: bool, tmp_path: Path
) -> None:
    path, rows = tmp_path / "rows.csv", 400_000
    made = pd.DataFrame({"house": np.arange(rows) % 50, "v": 1e9 + np.arange(rows) % 7})
    made["w"], made["house"] = made["v"] / 3, made["house"].astype(object)
    made.loc[int((1 - share) * rows) :, "house"] = "12A"
    made.to_csv(path, index=False)
    if not kept:
        with pytest.raises(InputError, match=r"few of them among the first; allowed: --columns"):
            infer_schema_of_files(path, Selection(), MIXED)
        categories = Columns(kinds="mixed", categories=("house",))
        schema = infer_schema_of_files(path, Selection(), categories)
        assert schema is not None
        assert not np.isnan(read(path, expected=schema)[0]).any()
        return
    schema = infer_schema_of_files(path, Selection(), MIXED)
    blocks = list(open_rows(path, Selection(bad_cells="null"), schema).blocks(1 << 20))
    assert sum(len(block.bad) for block in blocks) == int(share * rows)
