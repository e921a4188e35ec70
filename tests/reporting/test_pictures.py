"""Figures of images and rates, read back from what they draw."""

from __future__ import annotations

import numpy as np
import pytest

from aejax.config import InputError
from aejax.reporting.markup import readable
from aejax.reporting.pictures import grid_figure, mosaic, rates_figure, strips_figure
from aejax.reporting.style import plain_png


def test_mosaic_puts_every_image_in_its_place() -> None:
    images = np.random.default_rng(0).random((5, 3, 4, 1))
    drawn = mosaic(images, columns=2)
    assert drawn.shape == (3 * 3 + 2 * 2, 2 * 4 + 2)
    np.testing.assert_array_equal(drawn[:3, :4], images[0, ..., 0])
    np.testing.assert_array_equal(drawn[5:8, 6:], images[3, ..., 0])
    np.testing.assert_array_equal(drawn[10:, :4], images[4, ..., 0])
    # Gaps, and the place that is left over.
    assert np.isnan(drawn).sum() == drawn.size - images.size
    assert np.isnan(drawn[10:, 4:]).all()


def test_mosaic_shows_what_is_out_of_range_as_black_or_white() -> None:
    images = np.array([[[-3.0, 0.5], [1.5, 1.0]]])
    np.testing.assert_array_equal(mosaic(images, 1), [[0, 0.5], [1, 1]])


def test_mosaic_of_colour_images() -> None:
    images = np.random.default_rng(0).random((2, 3, 4, 3))
    drawn = mosaic(images, columns=2)
    assert drawn.shape == (3, 10, 3)
    np.testing.assert_array_equal(drawn[:, 6:], images[1])
    assert plain_png(grid_figure(images, columns=2)).startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [(0, 3, 3, 1), (3, 3), (2, 3, 3, 2)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"images have shape"):
        mosaic(np.zeros(shape), 2)


def test_strips_have_names_and_lie_in_order() -> None:
    random = np.random.default_rng(0)
    strips = {name: random.random((4, 6, 5, 1)) for name in ("noisy", "clean")}
    figure = strips_figure(strips)
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["noisy", "clean"]
    for axes, images in zip(figure.axes, strips.values(), strict=True):
        shown = axes.images[0].get_array()
        np.testing.assert_array_equal(shown[:, :5], images[0, ..., 0])
    assert plain_png(figure).startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"strips hold .*as many"):
        strips_figure({"noisy": strips["noisy"], "clean": strips["clean"][:3]})


def test_rates_and_published_ones() -> None:
    rates = {"ones": [0.99, 0.98, 0.985], "others": [0.0, 0.7, 0.96]}
    published = {"ones": 0.9868, "others": 0.9865}
    figure = rates_figure(rates, published, label="round")
    (axes,) = figure.axes
    drawn = [line.get_ydata() for line in axes.lines]
    np.testing.assert_array_equal(drawn[0], rates["ones"])
    np.testing.assert_array_equal(drawn[1], rates["others"])
    assert [values[0] for values in drawn[2:]] == [0.9868, 0.9865]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["ones, ends at 98.50%", "others, ends at 96.00%"]
    # Names of lines that nearly meet are written apart, the higher one above.
    names = {text.get_text(): text.xy[1] for text in axes.texts}
    assert names["published 98.68%"] - names["published 98.65%"] >= 0.0499
    assert plain_png(figure).startswith(b"\x89PNG")
    assert not rates_figure(rates, {}, label="round").axes[0].texts


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("average_precision", "Average precision"),
        ("auroc", "AUROC"),
        ("negative_elbo_as_scored", "Negative ELBO as scored"),
        ("psnr_denoised", "PSNR denoised"),
        ("", ""),
    ],
)
def test_keys_as_words(key: str, words: str) -> None:
    assert readable(key) == words
