"""The report of many groups: bounded, with the groups that stand out, and right numbers."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from aejax import Quantile
from aejax.config import InputError, to_dict
from aejax.core.scaling import Scaler
from aejax.data.schema import Schema
from aejax.detection.alarms import Alarm
from aejax.detection.detector import Detector
from aejax.detection.groups import Group, Groups
from aejax.detection.threshold import GroupThresholds, Threshold
from aejax.reporting.group_plots import GroupsReport
from aejax.reporting.groups_page import MOST_SHOWN, notable_groups, render, write_groups_report
from tests.plain import plain_config


def report_of(groups: int, *, skipped: int = 0, odd: bool = True) -> GroupsReport:
    """Groups that hardly differ; of which group 3 is badly fitted, 5 much flagged, 7 has an alarm,
    and 9 a name that is markup."""
    random = np.random.default_rng(0)
    odd_ones = {3: {"error_left": 3.0}, 5: {}, 7: {}, 9: {"rows": 7}} if odd else {}
    made, thresholds = [], []
    for at in range(groups):
        threshold = Threshold(value=1 + 0.1 * random.random(), rule=Quantile(q=0.99), rows=200)
        found = Group(
            name="</script><b>9" if at == 9 else f"store {at:05d}",
            rows=1000,
            best_epoch=2,
            loss=0.5 + 0.01 * random.random(),
            validation_loss=0.6 + 0.01 * random.random(),
            error_left=0.3 + 0.01 * random.random(),
        )
        found = dataclasses.replace(found, **odd_ones.get(at, {}))
        if odd and at == 7:
            alarm = Alarm(kind="wild value", size=200.0, text="c has a value 200 times as far")
            found = dataclasses.replace(found, alarms=(alarm,))
        if odd and at == 9:
            threshold = dataclasses.replace(threshold, rows=3)
        made.append(found)
        thresholds.append(threshold)
    band = [0.1, 0.2, 0.3, 0.4, 0.5]
    history = [
        {"epoch": at + 1, "groups": groups, "loss": band, "validation_loss": band}
        for at in range(3)
    ]
    lost = {f"lost {at}": "it has 1 training rows" for at in range(skipped)}
    lost |= {"burst": "the loss became nan at step 3"} if skipped else {}
    detector = Detector(
        config=plain_config(),
        schema=Schema(shape=(4,)),
        groups=Groups(column="store", each=tuple(made), skipped=lost),
        members=groups,
        threshold=GroupThresholds(each=tuple(thresholds)),
        scaler=Scaler(shift=None, factor=None, limit=None),
        variables={},
        history=history,
        provenance={"alarms": ["1 of 12 groups had a value so far out"]},
    )
    judged, flagged = np.full(groups, 1000), random.integers(8, 13, groups)
    if odd:
        flagged[5] = 400
    return GroupsReport(
        title="Stores",
        subtitle="Each.",
        config=to_dict(plain_config()),
        detector=detector,
        judged=judged,
        flagged=flagged,
        areas={made[0].name: 0.91},
        table="groups.csv",
        seconds={"train": 1.0},
        environment={"device": "cpu"},
    )


def test_groups_that_stand_out_are_named_with_the_reason() -> None:
    found = {one.at: one.why for one in notable_groups(report_of(200))}
    assert found == {
        7: ("wild value",),
        3: ("worst fit",),
        5: ("most flagged",),
        9: ("threshold rests on 3 rows",),
    }
    assert notable_groups(report_of(200, odd=False)) == []


def test_page_holds_its_numbers_and_escapes_names() -> None:
    page, plots = render(report_of(40, skipped=60))
    text = re.sub(r"<[^>]+>", " ", page)
    assert "40 groups of &#x27;store&#x27; have a detector each; 1 raised an alarm." in text
    assert "Warning: 1 of 12 groups had a value so far out." in text
    assert "</script><b>9" not in page
    assert "burst" in page
    assert "and 36 more" in page
    assert "40.0%" in page
    assert {"losses", "thresholds_of_groups", "flagged_of_groups"} <= set(plots)
    # One AUROC is no distribution.
    assert "areas_of_groups" not in plots
    assert "0.9100" in page


def test_page_is_as_large_for_ten_thousand_groups_as_for_some(tmp_path: Path) -> None:
    few, _ = render(report_of(300, skipped=30))
    many_groups = report_of(10_000, skipped=3000)
    alarmed = [
        dataclasses.replace(group, alarms=(Alarm(kind="drift", size=at, text="moved"),))
        if at % 3 == 0
        else group
        for at, group in enumerate(many_groups.groups)
    ]
    known = dataclasses.replace(many_groups.known, each=tuple(alarmed))
    detector = dataclasses.replace(many_groups.detector, groups=known)
    many = dataclasses.replace(many_groups, detector=detector)
    assert len(notable_groups(many)) <= MOST_SHOWN
    page = write_groups_report(many, tmp_path)
    assert page.stat().st_size < len(few.encode()) + 60_000
    assert (tmp_path / "plots" / "losses.png").is_file()


def test_counts_of_another_number_of_groups_are_refused() -> None:
    with pytest.raises(InputError, match=r"flagged has shape \(3,\); allowed: \(40,\)"):
        dataclasses.replace(report_of(40), flagged=np.zeros(3, np.int64))
