from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn import metrics as reference
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from aejax.config import InputError, to_dict
from aejax.data.schema import Schema
from aejax.detection.metrics import evaluate
from aejax.reporting import markup, rows
from aejax.reporting.plots import bin_scores, score_histogram
from aejax.reporting.report import Examples, Report, write_metrics, write_report
from aejax.reporting.sections import figures_section
from aejax.reporting.style import to_svg
from tests.plain import plain_config

VOID = {"meta", "img", "br", "hr", "col"}
HISTORY = [
    {"epoch": 1, "loss": 0.9, "validation_loss": 0.8, "learning_rate": 0.1, "seconds": 0.5},
    {"epoch": 2, "loss": 0.5, "validation_loss": 0.25, "rows_per_second": 1e6, "seconds": 0.25},
    {"epoch": 3, "loss": 0.4, "validation_loss": 0.3, "rows_per_second": 1e6, "seconds": 0.25},
]


class Page(HTMLParser):
    """The page as a reader gets it: elements, text by section, tables by caption."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.section = "header"
        self.text: dict[str, str] = {}
        self.tables: dict[str, list[list[str]]] = {}
        self.caption: str | None = None
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "section":
            self.section = dict(attrs)["id"]
        if tag == "caption":
            self.caption = ""
        if tag == "tr":
            self.tables.setdefault(self.caption or "", []).append([])
        if tag in ("td", "th"):
            self.tables[self.caption or ""][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text[self.section] = self.text.get(self.section, "") + data + " "
        if "caption" in self.open:
            self.caption = data
        elif self.open and {"td", "th"} & set(self.open):
            cells = self.tables[self.caption or ""][-1]
            cells[-1] = f"{cells[-1]} {data}".strip()

    def rows(self, caption: str) -> dict[str, list[str]]:
        return {cells[0]: cells[1:] for cells in self.tables[caption] if cells}


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def make_examples(count, schema, labels=True, x=None, reconstruction=None) -> Examples:
    random = np.random.default_rng(0)
    x = random.normal(size=(count, *schema.shape)) if x is None else x
    y = x + random.normal(size=x.shape) if reconstruction is None else reconstruction
    error = (x - y) ** 2
    return Examples(
        x=x,
        reconstruction=y,
        error=error,
        score=error.reshape(count, -1).mean(axis=1),
        is_anomaly=np.arange(count) % 2 == 0 if labels else None,
        row=np.arange(count) + 1000,
    )


TABLE = Schema(shape=(3,), names=("width", "height", "weight"))


def make_report(**changes) -> Report:
    random = np.random.default_rng(1)
    labels = random.random(300) < 0.2
    scores = np.exp(random.normal(size=300) + 1.5 * labels).astype(np.float32)
    threshold = 4.0
    values = {
        "title": "A title",
        "subtitle": "What was done.",
        "config": to_dict(plain_config()),
        "history": HISTORY,
        "scores": scores,
        "is_anomaly": labels,
        "threshold": threshold,
        "metrics": evaluate(scores, labels, threshold),
        "published": None,
        "measured": None,
        "seconds": {"compile": 1.5, "train": 0.25},
        "schema": TABLE,
        "most": None,
        "least": None,
        "environment": {"jax": "0.10.2", "device": {"kind": "cpu", "count": 2}},
    }
    return Report(**(values | changes))


def unlabelled(scores, threshold=None, **changes) -> Report:
    return make_report(
        scores=np.asarray(scores), is_anomaly=None, threshold=threshold, metrics={}, **changes
    )


def small(**changes) -> Report:
    """A report that is drawn fast: few scores and nothing else that isn't asked for."""
    plain = {"scores": [1.0, 2.0, 4.0], "history": []}
    return unlabelled(**(plain | changes))


@pytest.fixture(scope="module")
def digits_page(tmp_path_factory):
    data = load_digits()
    images = data.data / 16
    labels = data.target == 4
    model = PCA(12).fit(images[~labels])
    reconstruction = model.inverse_transform(model.transform(images))
    error = (images - reconstruction) ** 2
    scores = error.mean(axis=1)
    threshold = float(np.quantile(scores[~labels], 0.9))
    order = np.argsort(-scores)

    def take(chosen):
        shape = (len(chosen), 8, 8, 1)
        return Examples(
            x=images[chosen].reshape(shape),
            reconstruction=reconstruction[chosen].reshape(shape),
            error=error[chosen].reshape(shape),
            score=scores[chosen],
            is_anomaly=labels[chosen],
            row=chosen,
        )

    extra = Figure(figsize=(3, 2))
    extra.subplots().plot([1, 2], [3, 4])
    report = make_report(
        scores=scores,
        is_anomaly=labels,
        threshold=threshold,
        metrics=evaluate(scores, labels, threshold),
        published={"auroc": 0.9, "source": "a paper"},
        measured={"auroc": float(reference.roc_auc_score(labels, scores)), "f1": 0.5},
        schema=Schema(shape=(8, 8, 1), kind="image"),
        most=take(order[:3]),
        least=take(order[::-1][:2]),
        figures=(("An Extra: figure!", "Its caption.", extra),),
    )
    folder = tmp_path_factory.mktemp("digits")
    path = write_report(report, folder)
    return report, folder, read(path), path


def test_headline_numbers_are_scikit_learns(digits_page):
    report, _, page, _ = digits_page
    header = page.text["header"]
    flagged = report.scores > report.threshold
    labels = report.is_anomaly
    assert f"{reference.roc_auc_score(labels, report.scores):.4f}" in header
    assert f"{reference.average_precision_score(labels, report.scores):.4f}" in header
    assert f"{flagged.sum():,}" in header
    assert "1,797" in header
    found, alarms = (flagged & labels).sum(), (flagged & ~labels).sum()
    assert (
        f"finds {found:,} of {labels.sum():,} anomalies and raises false alarms on "
        f"{alarms:,} of {(~labels).sum():,} normal rows"
    ) in header


def test_decisions_are_scikit_learns_in_both_views(digits_page):
    report, _, page, _ = digits_page
    labels, flagged = report.is_anomaly, report.scores > report.threshold
    (passed, alarms), (missed, found) = reference.confusion_matrix(labels, flagged)
    decisions = page.rows(f"Decisions at threshold {markup.number(report.threshold)}")
    assert [cell.split()[0] for cell in decisions["Anomalies"]] == [f"{found:,}", f"{missed:,}"]
    assert [cell.split()[0] for cell in decisions["Normal rows"]] == [f"{alarms:,}", f"{passed:,}"]
    views = page.rows("The same decisions, counted both ways")
    for name, score in (
        ("Precision", reference.precision_score),
        ("Recall", reference.recall_score),
        ("F1", reference.f1_score),
        ("Accuracy", reference.accuracy_score),
    ):
        assert views[name] == [f"{score(labels, flagged):.4f}", f"{score(~labels, ~flagged):.4f}"]


def test_quantiles_and_training_and_publication(digits_page):
    report, _, page, _ = digits_page
    quantiles = page.rows("Quantiles of the scores")
    for group, scores in enumerate(
        (report.scores[~report.is_anomaly], report.scores[report.is_anomaly])
    ):
        assert float(quantiles["median"][group]) == pytest.approx(np.median(scores), rel=1e-3)
        assert float(quantiles["highest"][group]) == pytest.approx(scores.max(), rel=1e-3)
    assert "The validation loss is lowest, 0.25, in epoch 2" in page.text["training"]
    assert page.rows("Training in numbers")["Seconds"] == ["1"]
    published = page.rows("Difference is this run minus the publication")
    area = reference.roc_auc_score(report.is_anomaly, report.scores)
    assert published["AUROC"] == ["0.9", f"{area:.4g}", f"{area - 0.9:+.4f}".replace("-", "\u2212")]
    assert published["Source"] == ["a paper", "\u2013", "\u2013"]
    assert published["F1"] == ["\u2013", "0.5", "\u2013"]
    assert page.rows("Train")["Batch size"] == [str(plain_config().train.batch_size)]
    assert page.rows("Environment")["Device.kind"] == ["cpu"]
    assert page.rows("Seconds")["Compile"] == ["1.5 s"]


def test_page_needs_nothing_beside_it(digits_page):
    _, _, page, path = digits_page
    text = path.read_text(encoding="utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "iframe", "object", "embed", "base"}
    assert text.count("<script") == 2  # The slider's data, and what looks them up.
    for _, attributes in page.elements:
        for key in ("src", "href", "srcset", "action", "poster"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/png;base64,"))
    assert path.stat().st_size < 3 << 20


def test_ids_are_unique_and_references_resolve(digits_page):
    _, _, page, path = digits_page
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    text = path.read_text(encoding="utf-8")
    wanted = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert wanted
    assert wanted <= set(ids)


def test_page_can_be_read_without_seeing_it(digits_page):
    report, _, page, _ = digits_page
    for tag, attributes in page.elements:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    labels = [a["aria-label"] for tag, a in page.elements if tag == "svg"]
    worst = int(np.argmax(report.most.error[0]))
    assert any(
        f"Row {report.most.row[0]} " in label and f"pixel[{worst // 8},{worst % 8}]" in label
        for label in labels
    )


def test_rows_appear_in_the_order_given(digits_page):
    report, _, page, _ = digits_page
    for anchor, examples in (("most_anomalous", report.most), ("least_anomalous", report.least)):
        shown = re.findall(r"Row ([\d,]+)", page.text[anchor])
        assert [int(row.replace(",", "")) for row in shown] == list(examples.row)
        assert f"score {float(examples.score[0]):.4g}" in page.text[anchor]


def test_plots_are_files_too_and_nothing_is_left_aside(digits_page):
    _, folder, _, _ = digits_page
    names = {path.name for path in (folder / "plots").iterdir()}
    assert names == {
        "scores.png",
        "roc.png",
        "precision_recall.png",
        "losses.png",
        "most_anomalous.png",
        "least_anomalous.png",
        "figure_01_an_extra_figure.png",
    }
    assert all((folder / "plots" / name).read_bytes()[:4] == b"\x89PNG" for name in names)
    assert not list(folder.rglob("*.writing"))


def test_plots_of_an_earlier_report_go_and_other_files_stay(tmp_path):
    write_report(make_report(), tmp_path)
    assert (tmp_path / "plots" / "roc.png").exists()
    (tmp_path / "plots" / "mine.png").write_bytes(b"mine")
    (tmp_path / "plots" / "figure_07_old.png").write_bytes(b"old")
    write_report(small(), tmp_path)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"mine.png", "scores.png"}


def test_same_report_same_bytes_and_settings_of_matplotlib_stay(tmp_path):
    before = dict(matplotlib.rcParams)
    # Other tests' libraries may have loaded it; a report never does.
    loaded = "pyplot" in dir(matplotlib)
    report = small(most=make_examples(1, TABLE))
    first = write_report(report, tmp_path / "a").read_bytes()
    assert write_report(report, tmp_path / "b").read_bytes() == first
    assert dict(matplotlib.rcParams) == before
    assert ("pyplot" in dir(matplotlib)) == loaded


EVIL = '<script>alert("1")</script>'


def test_everything_is_escaped(tmp_path):
    schema = Schema(shape=(2,), names=(EVIL, "cost_$_^{\\frac \x00 &amp;"))
    figure = Figure(figsize=(2, 2))
    report = small(
        title=EVIL,
        subtitle=EVIL,
        config={EVIL: EVIL, "group": {EVIL: EVIL}},
        published={EVIL: EVIL},
        measured={EVIL: 1.0},
        seconds={EVIL: 1.0},
        environment={EVIL: [EVIL]},
        schema=schema,
        most=make_examples(2, schema),
        reasons=dict.fromkeys(range(100), "</script>" + EVIL),
        calibrate_command=EVIL,
        figures=((EVIL, EVIL, figure),),
    )
    path = write_report(report, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert EVIL not in text
    assert text.count("<script") == text.count("</script") == 2
    assert "\x00" not in text
    page = read(path)
    assert EVIL in page.text["header"]
    labels = [a["aria-label"] for tag, a in page.elements if tag == "svg"]
    assert any(EVIL in label or "cost_$" in label for label in labels)
    drawn = page.text["most_anomalous"]
    assert "<script>" in drawn
    assert "cost_$" in drawn


def test_names_in_any_script_and_names_that_look_like_svg(tmp_path):
    schema = Schema(shape=(3,), names=("温度", 'a id="x" #ffffff url(#y)', "n" * 500))
    path = write_report(small(schema=schema, most=make_examples(1, schema)), tmp_path)
    drawn = read(path).text["most_anomalous"]
    assert "温度" in drawn
    assert 'a id="x" #ff' in drawn
    assert "n" * 30 not in drawn


def test_nothing_but_scores(tmp_path):
    page = read(write_report(small(config={}, seconds={}, environment={}), tmp_path))
    assert set(page.text) == {"header", "scores", "choose"}


def test_settings_named_like_a_heading_stay(tmp_path):
    report = small(config={"run": {"a_b": 1}, "error": "squared", "model": {"layer": {"size": 2}}})
    page = read(write_report(report, tmp_path))
    assert sorted(page.tables["Run"]) == [["A b", "1"], ["Error", "squared"]]
    assert page.rows("Model") == {"Layer: Size": ["2"]}


def test_long_title(tmp_path):
    title = "word " * 200 + "x" * 500
    assert title in read(write_report(small(title=title), tmp_path)).text["header"]


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [([1.0], None), ([0.0], 0.0), ([1.0, 2.0, 3.0], 1.0)],
)
def test_unlabelled_scores(tmp_path, scores, threshold):
    page = read(write_report(small(scores=np.asarray(scores), threshold=threshold), tmp_path))
    assert "detection" not in page.text
    header = page.text["header"]
    assert ("none was set" in header) == (threshold is None)
    if threshold is not None:
        assert f"flags {(np.asarray(scores) > threshold).sum()} of {len(scores)} rows" in header


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [
        ([1.0], 0.5),
        (np.zeros(10), None),
        (np.full(10, 1e-30), 1e-30),
        (np.full(10, 1e20), 1e21),
        (np.full(10, -3.0), -4.0),
        ([0.0, 0.0, 1e-300], 0.0),
        ([1.0, 1.0 + 1e-15], 1.0),
        (np.geomspace(1e-12, 1e12, 50), 1e-13),
        (np.r_[np.ones(50), 1e6], 0.0),
        (np.arange(5), 1e9),
    ],
)
def test_scores_of_any_range_can_be_drawn(scores, threshold):
    scores = np.asarray(scores, np.float64)
    drawing = to_svg(score_histogram(scores, None, threshold).figure, "scores", "words")
    assert threshold is None or f"threshold {markup.number(threshold)}" in drawing
    assert bin_scores(scores, None, threshold).counts["rows"].sum() == len(scores)


@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("rows_shown", [1, 20])
def test_one_class(tmp_path, label, rows_shown):
    scores = np.linspace(0, 1, rows_shown)
    labels = np.full(rows_shown, label)
    report = make_report(
        scores=scores,
        is_anomaly=labels,
        threshold=0.5,
        metrics=evaluate(scores, labels, 0.5),
        history=[],
    )
    page = read(write_report(report, tmp_path))
    assert "AUROC and average precision need both classes" in page.text["detection"]
    assert "Decisions at threshold 0.5" in page.text["detection"]
    assert "nan" not in page.text["header"].lower()


def test_labels_without_threshold_and_without_history(tmp_path):
    report = make_report(threshold=None, history=[])
    report = dataclasses.replace(report, metrics=evaluate(report.scores, report.is_anomaly, None))
    page = read(write_report(report, tmp_path))
    assert "training" not in page.text
    assert "none was set" in page.text["header"]
    assert "AUROC" in page.text["detection"]
    assert "Decisions" not in page.text["detection"]


def test_constant_scores_with_labels(tmp_path):
    scores, labels = np.full(20, 0.25), np.arange(20) < 5
    report = make_report(
        scores=scores, is_anomaly=labels, threshold=0.25, metrics=evaluate(scores, labels, 0.25)
    )
    page = read(write_report(report, tmp_path))
    assert "0.5000" in page.text["header"]


@pytest.mark.parametrize(
    "history",
    [
        [{"epoch": 1, "loss": 0.5}],
        [{"epoch": 1, "loss": 0.0}, {"epoch": 2, "loss": 0.0, "validation_loss": None}],
        [{"epoch": 1, "loss": -3.0}, {"epoch": 2, "loss": float("nan")}],
        [{"epoch": i, "loss": 1 / (i + 1)} for i in range(5000)],
    ],
)
def test_any_history(tmp_path, history):
    path = write_report(small(history=history), tmp_path)
    assert "The training loss is lowest" in read(path).text["training"]
    assert path.stat().st_size < 1 << 20


SCHEMAS = {
    "series": Schema(shape=(30,), kind="series"),
    "one sample": Schema(shape=(1,), kind="series"),
    "channels": Schema(shape=(30, 3), kind="series"),
    "grey": Schema(shape=(6, 9, 1), kind="image"),
    "colour": Schema(shape=(300, 200, 3), kind="image"),
    "a line of pixels": Schema(shape=(1, 400, 1), kind="image"),
    "unnamed table": Schema(shape=(200,)),
}


@pytest.mark.parametrize(("inches", "whole"), [(4.6, False), (9.0, True)])
def test_a_wide_figure_has_the_width_of_the_page(inches, whole):
    figure = Figure(figsize=(inches, 2))
    figure.subplots().plot([1, 2])
    section = figures_section(small(figures=(("A title", "Words.", figure),)))
    assert section is not None
    assert ('class="wide full"' in section.content) is whole


@pytest.mark.parametrize("name", SCHEMAS)
def test_rows_of_every_kind(tmp_path, name):
    schema = SCHEMAS[name]
    most = make_examples(2, schema)
    still = np.zeros((1, *schema.shape))
    least = make_examples(1, schema, labels=False, x=still, reconstruction=still)
    path = write_report(small(schema=schema, most=most, least=least), tmp_path)
    page = read(path)
    assert re.findall(r"Row ([\d,]+)", page.text["most_anomalous"]) == ["1,000", "1,001"]
    assert path.stat().st_size < 3 << 20


def test_only_constant_rows_still_have_a_scale():
    still = np.full((2, 3), 7.0)
    scales = rows.shared_scales(TABLE, make_examples(2, TABLE, x=still, reconstruction=still))
    assert scales.low < 7.0 < scales.high
    assert scales.error > 0
    assert rows.shared_scales(TABLE, None, None).low < rows.shared_scales(TABLE, None).high


def test_table_shows_the_largest_errors_first(tmp_path):
    schema = Schema(shape=(50,), names=tuple(f"feature {i}" for i in range(50)))
    x = np.zeros((1, 50))
    y = x.copy()
    y[0, [7, 31, 2]] = [3.0, 2.0, 1.0]
    examples = make_examples(1, schema, x=x, reconstruction=y)
    text = read(write_report(small(schema=schema, most=examples), tmp_path)).text
    drawn = text["most_anomalous"]
    assert drawn.index("feature 7") < drawn.index("feature 31") < drawn.index("feature 2 ")
    assert "64.3%" in drawn  # 9 of 9 + 4 + 1
    assert "feature 40" not in drawn


def test_histogram_counts_equal_numpy_and_scales_follow_the_range():
    random = np.random.default_rng(0)
    scores = np.exp(2 * random.normal(size=4000))
    labels = np.arange(4000) < 40
    binned = bin_scores(scores, labels, 5.0)
    assert binned.log_scores
    assert binned.log_counts
    for name, chosen in (("anomalies", labels), ("normal rows", ~labels)):
        expected, _ = np.histogram(scores[chosen], binned.edges)
        np.testing.assert_array_equal(binned.counts[name], expected)
        assert binned.counts[name].sum() == chosen.sum()
    even = bin_scores(random.random(4000), None, None)
    assert not even.log_scores
    assert not even.log_counts


def test_a_million_scores(tmp_path):
    random = np.random.default_rng(0)
    labels = random.random(1_000_000) < 0.01
    scores = np.exp(random.normal(size=1_000_000) + 2 * labels).astype(np.float32)
    report = make_report(scores=scores, is_anomaly=labels, metrics={}, threshold=9.0, history=[])
    started = time.process_time()
    path = write_report(report, tmp_path)
    assert time.process_time() - started < 30
    assert path.stat().st_size < 1 << 20


def test_bad_reports_are_named():
    with pytest.raises(InputError, match=r"Report\.scores\[1\] is nan"):
        unlabelled([1.0, np.nan])
    with pytest.raises(InputError, match="at least one row"):
        unlabelled([])
    with pytest.raises(InputError, match=r"Report\.is_anomaly has shape \(2,\)"):
        make_report(is_anomaly=np.zeros(2, bool))
    with pytest.raises(InputError, match=r"Report\.threshold is inf"):
        make_report(threshold=float("inf"))
    good = make_examples(2, TABLE)
    with pytest.raises(InputError, match=r"Examples\.score has 1 rows; allowed: 2"):
        dataclasses.replace(good, score=good.score[:1])
    with pytest.raises(InputError, match=r"Examples\.error has shape \(2, 2\)"):
        dataclasses.replace(good, error=good.error[:, :2])


def test_metrics_file_is_plain_json(tmp_path):
    metrics = {"auroc": np.float32(0.5), "counts": np.arange(2), "bad": float("nan"), "none": None}
    seconds = {"train": 1.0}
    returned = write_metrics(tmp_path / "new", {"auroc": 0.6}, None, metrics, seconds, {"os": 1})
    path = tmp_path / "new" / "metrics.json"

    def refuse(name):
        raise AssertionError(name)

    written = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert written == {
        "published": {"auroc": 0.6},
        "measured": None,
        "metrics": {"auroc": 0.5, "counts": [0, 1], "bad": None, "none": None},
        "seconds": {"train": 1.0},
        "environment": {"os": 1},
    }
    assert returned == written
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "\u2013"),
        (0, "0"),
        (1234567, "1,234,567"),
        (-2.5, "\u22122.5"),
        (0.00012345, "0.0001234"),
        (12345.678, "12,346"),
        (True, "True"),
        ((8, 16.0), "8, 16"),
        (np.float32(0.5), "0.5"),
        (np.arange(2), "0, 1"),
        ("words", "words"),
        (float("nan"), "nan"),
        (1e30, "1e+30"),
    ],
)
def test_numbers_as_people_read_them(value, shown):
    assert markup.number(value) == shown


@pytest.mark.parametrize(
    ("part", "shown"),
    [(0.0, "0%"), (1.0, "100%"), (0.123, "12.3%"), (0.9995, "99.950%"), (1e-9, "below 0.001%")],
)
def test_shares_are_never_rounded_to_all_or_none(part, shown):
    assert markup.percent(part) == shown


def test_describing_a_report_imports_nothing_heavy():
    code = (
        "import sys, aejax.reporting.report, aejax.detection.metrics; "
        "print(*({'matplotlib', 'sklearn', 'jax'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
