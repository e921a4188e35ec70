"""Quality of images against its definitions in NumPy, and against what is known of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from aejax.config import InputError
from aejax.detection.quality import peak_signal_to_noise, structural_similarity


def images(channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Smooth images, and the same with noise."""
    random = np.random.default_rng(0)
    shape = (3, 20, 24, channels)
    truth = gaussian_filter(random.random(shape), (0, 2, 2, 0))
    truth = (truth - truth.min()) / (truth.max() - truth.min())
    return np.clip(truth + 0.1 * random.normal(size=shape), 0, 1), truth


def test_psnr_is_its_definition() -> None:
    noisy, truth = images()
    expected = -10 * np.log10(np.square(noisy - truth).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(peak_signal_to_noise(noisy, truth), expected, rtol=1e-12)
    # As stored, in steps of 1 / 255, the ratio is the same.
    found = peak_signal_to_noise(255 * noisy, 255 * truth, value_range=255)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert peak_signal_to_noise(truth[:1] + 0.1, truth[:1])[0] == pytest.approx(20)
    assert np.isposinf(peak_signal_to_noise(truth, truth)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_its_definition(channels: int) -> None:
    """Wang et al. 2004, equation 13, over every window that lies in the image."""
    noisy, truth = images(channels)

    def blur(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, (0, 1.5, 1.5, 0), radius=(0, 5, 5, 0))

    mean_x, mean_y = blur(noisy), blur(truth)
    variance_x, variance_y = blur(noisy**2) - mean_x**2, blur(truth**2) - mean_y**2
    covariance = blur(noisy * truth) - mean_x * mean_y
    expected = ((2 * mean_x * mean_y + 0.01**2) * (2 * covariance + 0.03**2)) / (
        (mean_x**2 + mean_y**2 + 0.01**2) * (variance_x + variance_y + 0.03**2)
    )
    found = structural_similarity(noisy, truth)
    np.testing.assert_allclose(found, expected[:, 5:-5, 5:-5].mean(axis=(1, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(structural_similarity(truth, truth), 1)


def test_more_noise_is_further_away() -> None:
    _, truth = images()
    random = np.random.default_rng(1).normal(size=truth.shape)
    for quality in (peak_signal_to_noise, structural_similarity):
        means = [quality(truth + level * random, truth).mean() for level in (0.02, 0.1, 0.3)]
        assert means == sorted(means, reverse=True)


def test_what_is_no_image() -> None:
    noisy, truth = images()
    for quality in (peak_signal_to_noise, structural_similarity):
        with pytest.raises(InputError, match=r"\(3, 20, 24, 1\).*\(2, 20, 24, 1\)"):
            quality(noisy, truth[:2])
        with pytest.raises(InputError, match=r"\[n, height, width, channels\]"):
            quality(noisy[0], truth[0])
    with pytest.raises(InputError, match="8 x 24 pixels; allowed: at least 11 x 11"):
        structural_similarity(noisy[:, :8], truth[:, :8])
