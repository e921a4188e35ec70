"""What the comparing figures draw, read back from the figures."""

from __future__ import annotations

import numpy as np

from aejax.reporting.pictures import Curve, Heat, curves_figure, heat_figure
from aejax.reporting.style import plain_png


def test_heat_maps_write_every_number_and_the_best_in_bold() -> None:
    values = np.array([[0.5, 0.91], [0.75, 0.904], [0.749, 0.6]])
    lines = [
        Heat(name="AUROC", panels={"a": values, "b": values[::-1]}, low=0.5, high=1.0),
        Heat(name="found", panels={"a": values, "b": values}, low=0.0, high=1.0, digits=1),
    ]
    figure = heat_figure(lines, rows=("pixels", "one", "two"), columns=("0.1", "0.2"))
    first, second, third, _ = figure.axes
    assert [text.get_text() for text in first.texts] == [
        *("0.50", "0.91"),
        *("0.75", "0.90"),
        *("0.75", "0.60"),
    ]
    # What is written alike is bold alike.
    bold = [text.get_fontweight() == "bold" for text in first.texts]
    assert bold == [False, True, True, False, True, False]
    assert [text.get_text() for text in third.texts][:2] == ["0.5", "0.9"]
    assert first.get_title(loc="left") == "a, AUROC"
    assert second.get_title(loc="left") == "b, AUROC"
    depth = first.images[0].get_array()
    assert depth is not None
    np.testing.assert_allclose(depth, (values - 0.5) / 0.5)
    assert plain_png(figure).startswith(b"\x89PNG")


def test_curves_hold_their_points_and_bands() -> None:
    curves = {
        "from scratch": Curve(x=[100, 1000], y=[0.7, 0.9], low=[0.6, 0.85], high=[0.8, 0.95]),
        "frozen": Curve(x=[100, 1000], y=[0.6, 0.8]),
    }
    figure = curves_figure(curves, x_label="labels", y_label="named right", rates=True)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    for line, (name, curve) in zip(axes.get_lines(), curves.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_allclose(line.get_xydata(), np.transpose([curve.x, curve.y]))
    assert len(axes.collections) == 1
    band = axes.collections[0].get_paths()[0].vertices
    assert {0.6, 0.8, 0.85, 0.95} <= set(np.round(band[:, 1], 6))
    assert plain_png(figure).startswith(b"\x89PNG")
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert {"100", "200", "500", "1000"} <= set(shown)
    assert any(label.get_text().endswith("%") for label in axes.get_yticklabels())
