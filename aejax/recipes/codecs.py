"""Images as few bytes, and back: latent values, principal components, JPEG and PNG."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aejax.config.extras import extra

if TYPE_CHECKING:
    from aejax.detection.detector import Detector

TOP = 255
COLUMNS = 100

# Images uint8 [n, 28, 28, 1] -> the stored bytes of one, and what is read back, in [0, 1].
Codec = Callable[[np.ndarray], tuple[float, np.ndarray]]


class Point(NamedTuple):
    """What a codec makes of a set of images.

    Attributes:
        size: stored bytes of an image.
        psnr: mean peak signal-to-noise ratio, in dB.
        ssim: mean structural similarity.
    """

    size: float
    psnr: float
    ssim: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bytes:
    """Numbers as one byte each: steps between the least and the largest of training rows.

    Attributes:
        low: float32 [width].
        step: float32 [width].
    """

    low: np.ndarray
    step: np.ndarray

    @staticmethod
    def of(latent: np.ndarray) -> Bytes:
        """Steps for latent values float32 [n, width]."""
        low, high = latent.min(axis=0), latent.max(axis=0)
        return Bytes(low=low, step=(high - low) / TOP)

    def write(self, latent: np.ndarray) -> np.ndarray:
        """Latent values as uint8 [n, width]."""
        step = np.where(self.step > 0, self.step, 1)
        return np.rint(np.clip((latent - self.low) / step, 0, TOP)).astype(np.uint8)

    def read(self, code: np.ndarray) -> np.ndarray:
        """Latent values float32 [n, width]."""
        return self.low + code * self.step


def autoencoder_codec(detector: Detector, x_train: np.ndarray) -> Codec:
    """Latent values as bytes."""
    kept = Bytes.of(detector.encode(x_train))

    def codec(images: np.ndarray) -> tuple[float, np.ndarray]:
        code = kept.write(detector.encode(images))
        return code.shape[1], detector.decode(kept.read(code))

    return codec


def unquantised(detector: Detector) -> Codec:
    """Latent values as they are, four bytes each."""

    def codec(images: np.ndarray) -> tuple[float, np.ndarray]:
        latent = detector.encode(images)
        return 4.0 * latent.shape[1], detector.decode(latent)

    return codec


def component_codec(x_train: np.ndarray, width: int) -> Codec:
    """Principal components as bytes."""
    from sklearn.decomposition import PCA

    def flat(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32) / TOP

    model = PCA(width, svd_solver="covariance_eigh").fit(flat(x_train))
    kept = Bytes.of(model.transform(flat(x_train)))

    def codec(images: np.ndarray) -> tuple[float, np.ndarray]:
        code = kept.write(model.transform(flat(images)))
        found = np.clip(model.inverse_transform(kept.read(code)), 0, 1)
        return code.shape[1], found.reshape(images.shape)

    return codec


def jpeg(images: np.ndarray, *, quality: int) -> tuple[float, np.ndarray]:
    """All images side by side as one JPEG; its bytes are shared out."""
    with extra("recipes"):
        from PIL import Image
    written = picture_file(images, "JPEG", quality)
    with Image.open(io.BytesIO(written)) as opened:
        pixels = np.asarray(opened, np.float32) / TOP
    columns = pixels.shape[1] // images.shape[2]
    tiles = pixels.reshape(-1, images.shape[1], columns, images.shape[2])
    found = tiles.transpose(0, 2, 1, 3).reshape(-1, *images.shape[1:])[: len(images)]
    return len(written) / len(images), found


def picture_bytes(images: np.ndarray, kind: str, quality: int = 75) -> int:
    """The bytes of a file that holds all images side by side."""
    return len(picture_file(images, kind, quality))


def picture_file(images: np.ndarray, kind: str, quality: int) -> bytes:
    """A file that holds grey images uint8 [n, height, width, 1] side by side, by Pillow."""
    with extra("recipes"):
        from PIL import Image
    columns = min(COLUMNS, len(images))
    lines = -(-len(images) // columns)
    height, width = images.shape[1:3]
    tiles = np.zeros((lines * columns, height, width), np.uint8)
    tiles[: len(images)] = images[..., 0]
    sheet = tiles.reshape(lines, columns, height, width).transpose(0, 2, 1, 3)
    picture = Image.fromarray(np.ascontiguousarray(sheet).reshape(lines * height, -1))
    stream = io.BytesIO()
    picture.save(stream, kind, quality=quality, optimize=True)
    return stream.getvalue()


def judge(codec: Codec, images: np.ndarray, judged: int) -> Point:
    """Size over all images, quality over the first ones."""
    from aejax.detection.quality import peak_signal_to_noise, structural_similarity

    size, found = codec(images)
    truth = images[:judged] / TOP
    return Point(
        size=float(size),
        psnr=float(peak_signal_to_noise(found[:judged], truth).mean()),
        ssim=float(structural_similarity(found[:judged], truth).mean()),
    )
