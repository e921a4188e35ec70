"""Image compression: an autoencoder's latent values as bytes, next to JPEG at the same size.

    aejax run mnist_compression --out runs/mnist_compression

"Are they good at data compression? Usually, not really", says the tutorial "Building
Autoencoders in Keras" (Chollet, the Keras blog, 2016): one hardly does better than JPEG, and
only on images like those it was trained on. It gives no figures; here are some.

A dense autoencoder 784-256-w-256-784 (SiLU, batch normalisation) is trained on MNIST's
60,000 training images for each width w of 8, 16, 32 and 64; every latent value is kept as
one byte, a step between the least and the largest value that the training images have. So
an image takes w bytes. Beside it:

- as many principal components, kept in the same way: the best linear code;
- JPEG (Pillow's), all test images side by side as one picture, which is kind to JPEG:
  tables and headers are shared as the decoder is. A JPEG file of a single digit is some 200
  bytes at the lowest quality, most of it tables;
- PNG, which loses nothing.

The decoder is counted too: its bytes, and how many images it takes until it has paid for
itself. The same codes are tried on Fashion-MNIST, which they have never seen. PSNR and SSIM
are means over the first 1,000 test images. It takes about two minutes.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aejax.config import Config, Dense, Scale, Train
from aejax.config.checks import extra
from aejax.data import datasets
from aejax.detection.quality import peak_signal_to_noise, structural_similarity
from aejax.recipes.recipe import Study, StudyRun
from aejax.reporting.report import Findings, Table

if TYPE_CHECKING:
    from aejax.detection.detector import Detector


TOP = 255
COLUMNS = 100

# Images uint8 [n, 28, 28, 1] -> the stored bytes of one, and what is read back, in [0, 1].
Codec = Callable[[np.ndarray], tuple[float, np.ndarray]]
WIDTHS = (8, 16, 32, 64)
HIDDEN = 256
QUALITIES = (1, 3, 5, 8, 10, 15, 20, 30, 40, 50, 65, 80)
SETS = {"mnist": "digits", "fashion_mnist": "clothes, which the codes never saw"}
SHOWN = 10
SHOWN_WIDTH = 32


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
        restored = np.clip(model.inverse_transform(kept.read(code)), 0, 1)
        return code.shape[1], restored.reshape(images.shape)

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
    restored = tiles.transpose(0, 2, 1, 3).reshape(-1, *images.shape[1:])[: len(images)]
    return len(written) / len(images), restored


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
    size, restored = codec(images)
    truth = images[:judged] / TOP
    return Point(
        size=float(size),
        psnr=float(peak_signal_to_noise(restored[:judged], truth).mean()),
        ssim=float(structural_similarity(restored[:judged], truth).mean()),
    )


Curves = dict[str, list[Point]]


def find(run: StudyRun) -> Findings:
    """Train the autoencoders, and compare what they keep with JPEG and principal components."""
    train = datasets.load("mnist", "train").x[: 2_000 if run.quick else None]
    tested = {name: datasets.load(name, "test").x for name in SETS}
    tested = {name: x[: 100 if run.quick else None] for name, x in tested.items()}
    widths = WIDTHS[2:3] if run.quick else WIDTHS
    detectors = {width: train_autoencoder(run, train, width) for width in widths}
    autoencoders = {width: autoencoder_codec(d, train) for width, d in detectors.items()}
    components = {width: component_codec(train, width) for width in widths}
    qualities = QUALITIES[::4] if run.quick else QUALITIES
    jpegs = {quality: functools.partial(jpeg, quality=quality) for quality in qualities}
    judged = 100 if run.quick else 1_000
    of_sets = {
        name: {
            "autoencoder": [judge(codec, x, judged) for codec in autoencoders.values()],
            "principal components": [judge(codec, x, judged) for codec in components.values()],
            "JPEG": [judge(codec, x, judged) for codec in jpegs.values()],
        }
        for name, x in tested.items()
    }
    exact = [judge(unquantised(d), tested["mnist"], judged).psnr for d in detectors.values()]
    lost = np.subtract(exact, [point.psnr for point in of_sets["mnist"]["autoencoder"]])
    lossless = picture_bytes(tested["mnist"], "PNG") / len(tested["mnist"])
    single = float(np.mean([picture_bytes(x[None], "JPEG", 1) for x in tested["mnist"][:judged]]))
    sizes = {width: decoder_bytes(detector) for width, detector in detectors.items()}
    return Findings(
        conclusions=(
            *(conclusion(of_sets[name], SETS[name]) for name in SETS),
            payback(of_sets["mnist"], sizes),
            f"Keeping a latent value as one byte costs at most {max(0.01, lost.max()):.2f} dB. "
            f"Without loss, PNG keeps a digit in {lossless:.0f} bytes where all are one picture; "
            f"a JPEG file of a single digit takes {single:.0f} bytes at the lowest quality, most "
            "of it tables.",
        ),
        measured=measured(of_sets),
        tables=(*(quality_table(of_sets[name], SETS[name]) for name in SETS), size_table(sizes)),
        figures=draw(
            of_sets, tested["mnist"], autoencoders[SHOWN_WIDTH], components[SHOWN_WIDTH], jpegs
        ),
        details={
            name: {
                codec: [dict(point._asdict()) for point in points]
                for codec, points in curves.items()
            }
            for name, curves in of_sets.items()
        }
        | {
            "decoder_bytes": {str(width): size for width, size in sizes.items()},
            "png_bytes": lossless,
            "single_jpeg_bytes": single,
            "psnr_unquantised": exact,
        },
    )


def train_autoencoder(run: StudyRun, x: np.ndarray, width: int) -> Detector:
    """An autoencoder of one latent width."""
    config = Config(
        # Without batch normalisation some latent values die, and their bytes say nothing.
        model=Dense(hidden=(HIDDEN, width), activation="silu", output="sigmoid", batch_norm=True),
        scale=Scale(kind="unit"),
        train=Train(
            epochs=2 if run.quick else 20,
            batch_size=128,
            learning_rate=2e-3,
            schedule="cosine",
            validation_fraction=0.0,
            seed=run.seed,
        ),
    )
    detector = run.fit(config, x)
    detector.save(run.out / f"autoencoder_{width}")
    return detector


def decoder_bytes(detector: Detector) -> int:
    """Bytes of a decoder in float32, with the two numbers that each latent value's steps need."""
    decoder = [
        layer
        for kind in ("params", "batch_stats")
        for name, layer in detector.variables[kind].items()
        if not name.startswith("encoder_")
    ]
    model = detector.config.model
    assert isinstance(model, Dense)
    numbers = sum(int(leaf.size) for layer in decoder for leaf in layer.values())
    return 4 * (numbers + 2 * model.hidden[-1])


def jpeg_beside(curves: Curves, size: float) -> Point | None:
    """The smallest JPEG that has at least as many bytes, or None beyond the last quality."""
    larger = [point for point in curves["JPEG"] if point.size >= size]
    return min(larger, key=lambda point: point.size) if larger else None


def jpeg_bytes_for(curves: Curves, psnr: float) -> float | None:
    """Bytes at which JPEG is as good, between two of its qualities; None where it never is."""
    points = sorted(curves["JPEG"])
    if not points[0].psnr <= psnr <= points[-1].psnr:
        return None
    return float(np.interp(psnr, [p.psnr for p in points], [p.size for p in points]))


def conclusion(curves: Curves, what: str) -> str:
    """Who is better at the same size, in a sentence."""
    parts = []
    for own in curves["autoencoder"]:
        other = jpeg_beside(curves, own.size)
        if other is None:
            continue
        verb = "beats" if own.psnr > other.psnr else "loses to"
        parts.append(
            f"at {own.size:.0f} bytes the autoencoder ({own.psnr:.1f} dB, SSIM {own.ssim:.2f}) "
            f"{verb} JPEG of {other.size:.0f} bytes ({other.psnr:.1f} dB, SSIM {other.ssim:.2f})"
        )
    return f"On {what}: {'; '.join(parts)}."


def payback(curves: Curves, sizes: Mapping[int, int]) -> str:
    """How many images pay for the decoder, in a sentence."""
    parts = []
    for width, point in zip(sizes, curves["autoencoder"], strict=True):
        needed = jpeg_bytes_for(curves, point.psnr)
        if needed is not None and needed > point.size:
            images = sizes[width] / (needed - point.size)
            parts.append(
                f"JPEG needs {needed:.0f} bytes to be as good as {width} of the autoencoder, "
                f"whose decoder of {sizes[width] / 1e6:.2f} MB is paid for after {images:,.0f} "
                "images"
            )
    return ("; ".join(parts) or "No decoder ever pays for itself against JPEG") + "."


def measured(of_sets: Mapping[str, Curves]) -> dict[str, float]:
    """The quality at every width, and JPEG's beside it."""
    numbers: dict[str, float] = {}
    for name, curves in of_sets.items():
        for own, linear in zip(curves["autoencoder"], curves["principal components"], strict=True):
            place = f"{name}_{own.size:.0f}_bytes"
            numbers |= {
                f"psnr_{place}": own.psnr,
                f"ssim_{place}": own.ssim,
                f"psnr_components_{place}": linear.psnr,
            }
            if (other := jpeg_beside(curves, own.size)) is not None:
                numbers[f"psnr_jpeg_{place}"] = other.psnr
    return numbers


def quality_table(curves: Curves, what: str) -> Table:
    """A line for every codec and size."""
    return Table(
        title=f"Stored bytes an image, and its quality read back: {what}",
        head=("Codec", "Bytes", "PSNR, dB", "SSIM"),
        lines=[
            (codec, f"{point.size:.1f}", f"{point.psnr:.2f}", f"{point.ssim:.3f}")
            for codec, points in curves.items()
            for point in points
        ],
    )


def size_table(sizes: Mapping[int, int]) -> Table:
    """The decoders' bytes."""
    return Table(
        title="What the reader needs besides: the decoder, in float32",
        head=("Latent values", "Bytes"),
        lines=[(str(width), size) for width, size in sizes.items()],
    )


def draw(
    of_sets: Mapping[str, Curves],
    images: np.ndarray,
    own: Codec,
    linear: Codec,
    jpegs: Mapping[int, Codec],
) -> tuple[tuple[str, str, Any], ...]:
    """The same digits by every codec, and quality against size."""
    from aejax.reporting.pictures import Curve, curves_figure, strips_figure

    sizes = {quality: codec(images)[0] for quality, codec in jpegs.items()}
    least = min(jpegs)
    enough = [quality for quality, size in sizes.items() if size >= SHOWN_WIDTH]
    beside = min(enough) if enough else max(jpegs)
    strips = {"original": images[:SHOWN] / TOP}
    for name, codec in (
        (f"autoencoder\n{SHOWN_WIDTH} bytes", own),
        (f"components\n{SHOWN_WIDTH} bytes", linear),
        (f"JPEG\n{sizes[beside]:.0f} bytes", jpegs[beside]),
        (f"JPEG's least\n{sizes[least]:.0f} bytes", jpegs[least]),
    ):
        strips[name] = codec(images)[1][:SHOWN]
    figures: list[tuple[str, str, Any]] = [
        (
            f"Ten digits in {SHOWN_WIDTH} bytes each",
            "The first test images, read back. JPEG's bytes are an image's share of one picture "
            "of all test images.",
            strips_figure(strips),
        )
    ]
    for name, curves in of_sets.items():
        lines = {
            codec: Curve(x=[p.size for p in points], y=[p.psnr for p in points])
            for codec, points in curves.items()
        }
        figures.append(
            (
                f"Quality against size: {SETS[name]}",
                "Mean PSNR of test images over stored bytes an image. The decoder's bytes are not "
                "counted here.",
                curves_figure(lines, x_label="stored bytes an image", y_label="PSNR, dB"),
            )
        )
    return tuple(figures)


RECIPE = Study(
    name="mnist_compression",
    title="Compressing digits with an autoencoder",
    summary="Latent values as bytes next to JPEG and principal components of the same size, on "
    "digits and on what the autoencoder never saw; the decoder is counted.",
    source="a claim of Building Autoencoders in Keras (Chollet, 2016), which gives no figures",
    time="about two minutes",
    published={},
    find=find,
)
