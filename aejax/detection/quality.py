"""How near images are to what they should be: PSNR, and SSIM by way of scikit-image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aejax.config import InputError
from aejax.config.checks import extra

# The Gaussian window of Wang et al. (2004): 11 x 11 pixels, standard deviation 1.5.
DEVIATION = 1.5
WINDOW = 11

Floats = npt.NDArray[np.float64]


def peak_signal_to_noise(
    images: npt.ArrayLike, truth: npt.ArrayLike, *, value_range: float = 1.0
) -> Floats:
    """Peak signal-to-noise ratio of every image in dB: 10 log10(range ** 2 / mean square error).

    Args:
        images: [n, height, width, channels].
        truth: what they should be, of the same shape.
        value_range: largest minus smallest possible value of a pixel.

    Returns:
        float64 [n]; larger is nearer, and infinite where an image is its truth.

    Raises:
        InputError: if these are no images of the same shape.
    """
    shown, expected = _pairs(images, truth)
    error = np.mean(np.square(shown - expected), axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(value_range**2 / error))


def structural_similarity(images: npt.ArrayLike, truth: npt.ArrayLike) -> Floats:
    """Structural similarity of every image, with its authors' window and constants.

    Wang et al., "Image quality assessment: from error visibility to structural similarity",
    IEEE Transactions on Image Processing 13, 2004. Channels are averaged.

    Args:
        images: [n, height, width, channels], at least 11 x 11 pixels in [0, 1].
        truth: what they should be, of the same shape.

    Returns:
        float64 [n], at most 1, which an image reaches that is its truth.

    Raises:
        InputError: if these are no images of the same shape, or too small.
    """
    shown, expected = _pairs(images, truth)
    if min(shown.shape[1:3]) < WINDOW:
        raise InputError(
            f"images have {shown.shape[1]} x {shown.shape[2]} pixels; "
            f"allowed: at least {WINDOW} x {WINDOW}"
        )
    with extra("recipes"):
        from skimage.metrics import structural_similarity as similarity

    values = [
        similarity(
            right,
            image,
            data_range=1.0,
            gaussian_weights=True,
            sigma=DEVIATION,
            use_sample_covariance=False,
            channel_axis=-1,
        )
        for image, right in zip(shown, expected, strict=True)
    ]
    return np.asarray(values, np.float64)


def _pairs(images: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Floats, Floats]:
    shown, expected = np.asarray(images, np.float64), np.asarray(truth, np.float64)
    if shown.ndim != 4 or shown.shape != expected.shape:
        raise InputError(
            f"images have shape {shown.shape} and their truth {expected.shape}; "
            "allowed: both [n, height, width, channels]"
        )
    return shown, expected
