"""Flags by group in a job's summary: pandas' counts of the parts, however the job went."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

import aejax
from aejax import Quantile
from aejax.commands.scoring import Score
from aejax.detection.detector import Detector
from aejax.scoring.group_totals import MOST_UNKNOWN, Groups, GroupTotals
from aejax.scoring.inspection import inspect_folder
from aejax.scoring.stream import score_files
from aejax.scoring.tally import Tally
from aejax.training.loop import Interrupted
from tests.plain import plain_config

COLUMNS = [f"reading_{i}" for i in range(4)]
STORES = (3, 5, 8, 13)


def make_table(seed: int, rows: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 2)) @ np.random.default_rng(9).normal(size=(2, 4))
    table = pd.DataFrame(x.astype(np.float32), columns=COLUMNS)
    return table.assign(store=random.choice(STORES, rows))


@pytest.fixture(scope="module")
def grouped() -> Detector:
    table = make_table(0, 400)
    config = plain_config(
        model=aejax.Dense(hidden=(4, 2)), train=aejax.Train(epochs=2), rule=Quantile(q=0.9)
    )
    return aejax.fit(config, table[[*COLUMNS, "store"]], groups="store")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which store 8's are odd, store 13 has none, and some have no detector or no store."""
    table = make_table(1, 900)
    table = table[table["store"] != 13].reset_index(drop=True)
    table.loc[table["store"] == 8, COLUMNS[0]] += 20
    table.loc[:40, "store"] = 99
    table.loc[100:103, "store"] = 98
    table.loc[200, COLUMNS[1]] = np.nan
    table = table.astype({"store": "Int64"})
    table.loc[300:302, "store"] = pd.NA
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    table.to_parquet(path, index=False)
    return path


def groups_of(*names: str) -> Groups:
    deciles = np.tile(np.arange(1.0, 10.0), (len(names), 1))
    calibrated = np.full(len(names), 200)
    return Groups(column="store", names=names, deciles=deciles, calibrated=calibrated)


def check(summary: dict, folder: Path, names: tuple[str, ...]) -> None:
    """Compare a summary and the table beside it with what pandas counts in the parts."""
    table = pq.read_table(folder)
    found = table.to_pandas()
    text = table["store"].cast(pa.string()).to_pandas().astype("string")
    listed = {one["group"]: one for one in summary["most_flagged_groups"]}
    counted = pd.read_csv(folder / "_groups.csv", dtype={"store": str}).set_index("store")
    for name in names:
        own = found[text == name]
        flagged = int(own["is_anomaly"].eq(True).sum())
        scored = int(own["score"].notna().sum())
        assert counted.loc[name, ["rows", "scored", "flagged"]].tolist() == [
            len(own),
            scored,
            flagged,
        ]
        assert (name in listed) == (flagged > 0)
        if flagged:
            line = {"group": name, "flagged": flagged, "rows": len(own), "share": flagged / scored}
            assert listed[name] == line
    strange = text[text.notna() & ~text.isin(names)].value_counts().to_dict()
    unknown = summary["unknown_groups"]
    assert {one["group"]: one["rows"] for one in unknown["most"]} == strange
    assert unknown["rows"] == sum(strange.values())
    assert unknown["rows_without_group"] == int(text.isna().sum())
    assert not unknown["at_least"]


def test_counts_are_those_of_the_parts_whether_or_not_the_job_stopped(
    grouped: Detector, path: Path, tmp_path: Path
) -> None:
    def run(out: Path, stop: bool = False) -> dict:
        return score_files(
            grouped, path, out, part_rows=128, batch_size=64, should_stop=lambda: stop
        )

    whole = run(tmp_path / "whole")
    assert grouped.groups is not None
    check(whole, tmp_path / "whole", grouped.groups.names)
    assert whole["groups"] == {"with_rows": 3, "without_rows": 1, "with_flags": 3, "drifted": 1}
    (alarm,) = whole["alarms"]
    assert alarm.startswith("1 of 4 groups had scores unlike those")
    assert "worst: '8', the scores are distributed unlike" in alarm
    assert whole["most_flagged_groups"][0]["group"] == "8"
    listed = ("groups", "most_flagged_groups", "unknown_groups", "alarms")
    for kept in ("as saved", "nothing", "as saved before the last parts"):
        out = tmp_path / kept
        for _ in range(2):
            before = (out / ".totals").read_bytes() if (out / ".totals").is_file() else b""
            with pytest.raises(Interrupted):
                run(out, stop=True)
        # What a kill may leave.
        if kept == "nothing":
            (out / ".totals").unlink()
        elif kept != "as saved":
            assert before not in (b"", (out / ".totals").read_bytes())
            (out / ".totals").write_bytes(before)
        again = run(out)
        assert again["resumed_at_row"] > 0
        for name in listed:
            assert again[name] == whole[name]
        assert (out / "_groups.csv").read_bytes() == (tmp_path / "whole/_groups.csv").read_bytes()
        kept = inspect_folder(out)["summary"]
        assert {name: kept[name] for name in listed} == {name: whole[name] for name in listed}
    assert json.loads((out / "_summary.json").read_text())["groups"] == whole["groups"]
    shown = Score.show(whole).splitlines()
    assert "groups without a detector: 2, 45 rows" in shown
    assert "rows without a group: 3" in shown
    assert shown[shown.index("most flagged groups:") + 1].startswith("  8: ")


def test_unknown_groups_take_bounded_memory(tmp_path: Path) -> None:
    groups = groups_of("a")
    totals, kept = GroupTotals(groups), GroupTotals(groups)
    for part in range(3):
        names = ["a"] * 10 + [f"part {part} {at:04d}" for at in range(1500)] + ["often"] * 40 + [""]
        flags = [True, None] * 5 + [None] * (len(names) - 10)
        scores = [None if flag is None else 1.5 for flag in flags]
        columns = {"score": pa.array(scores, pa.float32()), "is_anomaly": flags}
        table = pa.table({"store": names, **columns})
        pq.write_table(table, tmp_path / "part.parquet", row_group_size=700)
        counted = Tally.of_part(tmp_path / "part.parquet", groups)
        # As an actor of Ray's sends it.
        sent = Tally.from_bytes(counted.to_bytes(), groups).groups
        assert len(sent.unknown) == MOST_UNKNOWN
        totals.fold(sent)
        written = json.loads(json.dumps(totals.to_dict()))
        totals = GroupTotals.from_dict(written, groups)
        kept.fold(counted.groups)
        assert kept.to_dict() == totals.to_dict()
    # 1.5 lies above the first of the deciles 1, 2, ..., 9.
    assert totals.counts.tolist() == [[30, 15, 15, 0, 15, *[0] * 8]]
    listed = totals.summary()["unknown_groups"]
    assert (listed["groups"], listed["at_least"]) == (MOST_UNKNOWN, True)
    assert listed["rows"] == 3 * 1540
    assert listed["rows_without_group"] == 3
    assert listed["most"][0] == {"group": "often", "rows": 120}
    assert sum(one["rows"] for one in listed["most"]) + listed["rows_of_others"] == listed["rows"]


def test_groups_are_ranked_by_wilsons_interval() -> None:
    counts = [(1, 1), (100, 90), (10, 8), (1000, 850), (50, 0), (7, 7), (3, 2), (0, 0)]
    names = tuple(str(at) for at in range(len(counts)))
    totals = GroupTotals(groups_of(*names))
    for at, (scored, flagged) in enumerate(counts):
        totals.counts[at, :3] = scored, scored, flagged
    lows = {
        name: binomtest(flagged, scored).proportion_ci(0.95, method="wilson").low
        for name, (scored, flagged) in zip(names, counts, strict=True)
        if flagged
    }
    found = totals.summary()
    expected = sorted(lows, key=lambda name: -lows[name])
    assert [one["group"] for one in found["most_flagged_groups"]] == expected
    assert "unknown_groups" not in found
