"""A TensorFlow Datasets builder of the ECG5000 file that TensorFlow's autoencoder tutorial uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from aejax.config.checks import extra

with extra("recipes"):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums

URL = "http://storage.googleapis.com/download.tensorflow.org/data/ecg.csv"
SHA256 = "72ce7b040ca0c6ed36c3368e570c6ac4ddf20100476e47373c63b2395e012df1"
SAMPLES = 140


class Ecg5000(tfds.core.GeneratorBasedBuilder):
    """Heartbeats of one patient, 140 samples each, labelled 1 (normal) or 0 (abnormal).

    The records keep the order of the file: published results split it by position.
    """

    name = "ecg5000"
    VERSION = tfds.core.Version("1.0.0")
    URL = URL
    # An attribute instead of a checksums.tsv: the package then needs no data file beside its code.
    url_infos: ClassVar = {
        URL: checksums.UrlInfo(size=7_877_383, checksum=SHA256, filename="ecg.csv")
    }

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="ECG5000 (BIDMC chf07) as one file: 4,998 heartbeats of 140 samples.",
            features=tfds.features.FeaturesDict(
                {
                    "x": tfds.features.Tensor(shape=(SAMPLES,), dtype=np.float32),
                    "label": tfds.features.Scalar(dtype=np.int64),
                }
            ),
            homepage="https://www.tensorflow.org/tutorials/generative/autoencoder",
            citation="Goldberger et al., PhysioBank, PhysioToolkit, PhysioNet. Circulation, 2000.",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        # TFDS reserves the name "all" for the union of a set's splits, so the one split is "train".
        return {"train": self._generate_examples(Path(dl_manager.download(URL)))}

    def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        rows = np.loadtxt(path, delimiter=",", dtype=np.float64, ndmin=2)
        for index, row in enumerate(rows):
            yield index, {"x": row[:SAMPLES].astype(np.float32), "label": int(row[SAMPLES])}
