"""The check of an accelerator, tried on whatever device is at hand."""

from __future__ import annotations

import pytest

from benchmarks import device


@pytest.mark.slow
def test_parity_and_memory_are_measured_and_tabled() -> None:
    results = device.measure(("limits", "parity"), 600, True, None)
    table = device.as_table(results)
    assert "too far" not in table
    assert "failed" not in table
    for one in results["sections"]["parity"]:
        for kind, difference in one["differences"].items():
            assert difference <= device.TOLERANCES[kind], one


def test_a_section_without_time_is_named_as_skipped() -> None:
    results = device.measure(("parity",), -1, True, None)
    assert "skipped" in results["sections"]["parity"]
    assert "skipped" in device.as_table(results)
