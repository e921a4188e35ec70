"""Words and their numbers, and the blocks of HDFS."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aejax.config import InputError
from aejax.data.datasets import EventNumbers, load_hdfs, read_blocks
from aejax.data.windows import Sequences, number_words, read_text, split_words, subsample

REAL = pytest.mark.skipif("AEJAX_DATA_DIR" not in os.environ, reason="AEJAX_DATA_DIR is not set")


def test_words_are_numbered_by_frequency() -> None:
    paragraphs = split_words(
        "The cat -- the CAT!\nKnow\u2019t? the\n\n  \nwell-beloved cat; 12 know't"
    )
    assert paragraphs == [
        ["the", "cat", "the", "cat", "know't", "the"],
        ["well-beloved", "cat", "know't"],
    ]
    text = number_words(paragraphs, least_count=2)
    assert text.vocabulary.words == ("cat", "the", "know't")
    assert text.vocabulary.counts.tolist() == [3, 3, 2]
    assert text.vocabulary.others == 1
    assert text.vocabulary.size == 5
    assert text.sentences.ids.tolist() == [3, 2, 3, 2, 4, 3, 1, 2, 4]
    assert text.sentences.bounds.tolist() == [0, 6, 9]
    assert text.vocabulary.number("the") == 3
    with pytest.raises(InputError, match="word is 'teh'"):
        text.vocabulary.number("teh")


def test_frequent_words_are_left_out_as_often_as_word2vec_says() -> None:
    text = number_words([["often"] * 60_000 + ["rare"] * 20_000 + ["once"]], least_count=5)
    kept = subsample(text, 0.1, np.random.default_rng(0))
    share = np.array([0.75, 0.25])
    wanted = np.minimum(np.sqrt(0.1 / share) + 0.1 / share, 1)
    found = np.bincount(kept.ids, minlength=4)[2:] / [60_000, 20_000]
    np.testing.assert_allclose(found, wanted, atol=0.01)
    assert 1 not in kept.ids
    assert len(subsample(text, 0, np.random.default_rng(0)).ids) == 80_000


def test_texts_without_words_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="0 words occur at least 5 times"):
        number_words(split_words("1 2 3"))
    with pytest.raises(InputError, match=r"none\.txt does not exist"):
        read_text(tmp_path / "none.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not readable as UTF-8 text"):
        read_text(tmp_path / "bytes")
    monkeypatch.delenv("AEJAX_DATA_DIR", raising=False)
    with pytest.raises(InputError, match="AEJAX_DATA_DIR is not set"):
        read_text()
    with pytest.raises(InputError, match="AEJAX_DATA_DIR is not set"):
        load_hdfs()


def test_blocks_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "blocks"
    path.write_text("5 5 22 \n11\n")
    blocks = read_blocks(path)
    assert (blocks.ids.tolist(), blocks.bounds.tolist()) == ([5, 5, 22, 11], [0, 3, 4])
    for content, message in {
        "5 x\n": "line 1 holds 'x'; allowed: 1 to 16777216",
        "5\n0\n": "line 2 holds '0'",
        "5\n\n6\n": "line 2 is empty",
        "": "is empty; allowed: a block a line",
    }.items():
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_blocks(path)
    with pytest.raises(InputError, match="does not exist"):
        read_blocks(tmp_path / "none")


def test_events_never_seen_are_unknown_and_learned_as_such() -> None:
    blocks = Sequences.of([[5, 22, 5], [22, 9]])
    events = EventNumbers.of(blocks)
    assert (events.events, events.vocabulary) == ((5, 9, 22), 7)
    assert events.number(Sequences.of([[22, 6, 5], [30]])).ids.tolist() == [6, 1, 4, 1]
    more = events.with_unknown(events.number(blocks))
    assert more.ids[:5].tolist() == events.number(blocks).ids.tolist()
    added = np.split(more.ids, more.bounds[1:-1])[2:]
    assert [block.tolist() for block in added] == [[1, 6, 1], [6, 1], [4, 1, 4]]


@REAL
def test_real_files_hold_what_is_documented() -> None:
    blocks = load_hdfs()
    assert [len(blocks.train), len(blocks.normal), len(blocks.abnormal)] == [4855, 3366, 16838]
    text = number_words(split_words(read_text()))
    flat = [word for part in split_words(read_text()) for word in part]
    counted = Counter(flat)
    assert len(flat) == len(text.sentences.ids)
    assert text.vocabulary.counts.tolist() == [counted[w] for w in text.vocabulary.words]
    assert text.vocabulary.words[0] == "the"
