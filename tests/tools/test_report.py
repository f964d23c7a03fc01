"""The report: complete, self-contained, and harmless whatever the trajectories hold."""

import base64
import hashlib
import html.parser
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from r1ci_jax.config import DatasetConfig, Experiment
from r1ci_jax.errors import UserError
from r1ci_jax.runtime import metrics, run_dir
from r1ci_jax.tools.report import batch_parts
from r1ci_jax.tools.report import page as report
from r1ci_jax.tools.report.charts import (
    Mark,
    Series,
    choose_ticks,
    compute_trailing_mean,
    downsample,
    draw_line_chart,
)
from r1ci_jax.tools.report.readable_text import (
    MAX_LINE,
    MAX_MARKS,
    MAX_RECORD,
    make_readable,
    shorten_record,
)

HOSTILE = (
    "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>&amp;$data \u2028\udc80"
)
EXPERIMENT = Experiment(name="toy <b>", dataset=DatasetConfig(tasks=("toy_sorting",)))


class Page(html.parser.HTMLParser):
    """Elements, attributes and script bodies of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in_script else self.texts).append(data)


def trajectory(step: int, text: str = HOSTILE) -> dict[str, Any]:
    return {
        "stage": "grpo_curriculum",
        "step": step,
        "task": text,
        "example_id": text,
        "question": text,
        "agent": "code_agent",
        "reward": 1.1,
        "correct": True,
        "stop": "answer",
        "segments": [{"text": text, "sampled": True}, {"text": text, "sampled": False}],
        "code_calls": [
            {"code": text, "status": "ok", "stdout": text, "stderr": "", "wall_seconds": 0.1}
        ],
    }


@pytest.fixture
def run(tmp_path: Path) -> run_dir.RunDir:
    directory = run_dir.RunDir.open(tmp_path / "run", EXPERIMENT, changes={"sft.lr": (1, 2)})
    with metrics.MetricsWriter(directory.metrics_path) as writer:
        for step in range(1, 41):
            writer.write("sft", step, {"optim/loss": 2 / step, "time/update": 3.0})
            for stage in ("grpo_uniform", "grpo_curriculum"):
                values = {"reward/mean": step / 40, "accuracy": float("nan") if step == 2 else 0.5}
                writer.write(stage, step, values | {"curriculum/stage": 1 + (step - 1) // 10})
    with metrics.JsonlLog(directory.trajectories_path) as log:
        for step in range(1, 4):
            log.append(trajectory(step))
    with metrics.JsonlLog(directory.results_path) as log:
        for model in ("sft", "grpo_curriculum"):
            facts = {"model": model, "agent": "code_agent", "task": HOSTILE, "n": 4, "correct": 3}
            levels = {"1": {"n": 4, "correct": 3}}
            log.append(facts | {"stops": {"answer": 3, "eos": 1}, "difficulty": levels})
    with metrics.JsonlLog(directory.potential_path) as log:
        # Records of an earlier version have no interval.
        spans = ({}, {"p_low": 0.3, "p_high": 0.7}, {"p_low": 0.1, "p_high": 0.4}, {})
        for group, span in zip((1, 1, 2, 4), spans, strict=True):
            question = {"example_id": "x", "task": HOSTILE, "p": 0.5, "potential": 1.0}
            log.append(question | {"group": group} | span)
    directory.close()
    return directory


def test_hostile_text_adds_no_element(run: run_dir.RunDir) -> None:
    page = Page(report.write(run.path).read_text("utf-8"))
    assert page.tags.count("script") == 2 and "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    data = json.loads(page.scripts[0])
    assert [row["step"] for row in data] == [1, 2, 3]
    assert data[0]["segments"][1]["text"] == HOSTILE


def test_page_asks_the_network_for_nothing(run: run_dir.RunDir) -> None:
    page = Page(report.write(run.path).read_text("utf-8"))
    assert not {"link", "iframe", "img", "object"} & set(page.tags)
    links = [value for name, value in page.attributes if name in ("src", "href")]
    assert all(link is not None and link.startswith("#") for link in links)
    policy = next(value for name, value in page.attributes if name == "content" and value)
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_script_never_makes_html_of_data() -> None:
    source = (Path(report.__file__).parent / "report.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)


def test_a_bar_says_whose_tasks_it_is_of(run: run_dir.RunDir) -> None:
    def bars() -> list[str]:
        page = report.write(run.path).read_text("utf-8")
        return re.findall(r'<div class="bar"><span>([^<]*)</span>', page)

    assert bars()[:2] == ["SFT", "SFT + GRPO, curriculum"]
    with metrics.JsonlLog(run.results_path) as log:
        facts = {"model": "sft", "agent": "code_agent", "task": "x", "split": "train"}
        log.append(facts | {"n": 4, "correct": 1})
    assert bars()[:3] == [
        "SFT, test tasks",
        "SFT, train tasks",
        "SFT + GRPO, curriculum, test tasks",
    ]


def test_sections_show_the_numbers(run: run_dir.RunDir) -> None:
    text = report.write(run.path).read_text("utf-8")
    shown = "".join(Page(text).texts)
    assert "SFT + GRPO, curriculum" in shown and "75.0" in shown
    assert "2 questions" in shown  # group 1
    # Intervals of two questions: Π is .84 to 1, group 1; and .36 to .96, groups 1 to 3.
    assert "may be of another group" in shown
    assert "group 110.500.300.700" in shown and "group 210.500.100.401" in shown
    assert "sft.lr *" in shown
    assert "2 min 00 s" in shown  # 40 updates of 3 s
    for number in (1, 2, 3, 4):
        assert f"stage {number}" in shown


@pytest.mark.parametrize("name", ["metrics.jsonl", "potential.jsonl", "diagnostics.jsonl"])
def test_records_of_another_shape_are_one_line(run: run_dir.RunDir, name: str) -> None:
    with (run.path / name).open("a") as file:
        file.write('{"other": 1}\n')
    with pytest.raises(UserError, match=rf"{name}, line \d+ has no right .*: repair or delete"):
        report.write(run.path)


@pytest.mark.parametrize("name", [None, "metrics.jsonl", "results.jsonl", "potential.jsonl"])
def test_unfinished_runs_can_be_reported(run: run_dir.RunDir, name: str | None) -> None:
    names = [name] if name else ["metrics", "trajectories", "results", "potential"]
    for gone in names:
        (run.path / gone.removesuffix(".jsonl")).with_suffix(".jsonl").unlink()
    assert Page(report.write(run.path).read_text("utf-8")).tags.count("script") == 2


def part(step: int, name: str, signal: float, groups: int, **changes: Any) -> dict[str, Any]:
    counts = {"trajectories": 4, "valid": 4, "groups": groups, "tokens": 8}
    values = {"accuracy": 0.5, "group/signal_fraction": signal}
    place = {"stage": "grpo_curriculum", "step": step, "by": "suite", "name": name}
    return place | counts | values | changes


def test_parts_are_averaged_over_the_last_steps(run: run_dir.RunDir) -> None:
    assert "By suite" not in report.write(run.path).read_text("utf-8")  # nothing is measured
    with metrics.JsonlLog(run.diagnostics_path) as log:
        for step in range(1, 13):  # the first two are too old
            log.append(part(step, HOSTILE, 0.9 if step <= 2 else 0.25, groups=1))
        log.append(part(12, HOSTILE, 1.0, groups=10))
        log.append(part(12, "toy_search", 0.0, 0, by="task"))
    tables = batch_parts.read_tables(run.diagnostics_path, lambda stage: stage)
    assert list(tables) == ["suite", "task"]
    [row] = tables["suite"]
    cells = dict(zip(batch_parts.HEADERS, row, strict=True))
    assert (cells["part"], cells["trajectories"], cells["accuracy"]) == (HOSTILE, "44", "0.5")
    assert cells["signal"] == f"{(10 * 0.25 + 10 * 1.0) / 20:.3g}" and cells["entropy"] == "-"
    assert dict(zip(batch_parts.HEADERS, *tables["task"], strict=True))["signal"] == "-"
    page = Page(report.write(run.path).read_text("utf-8"))
    assert page.tags.count("script") == 2 and "img" not in page.tags
    assert any("By suite, last 10 steps" in text for text in page.texts)


def test_an_expected_curve_is_dashed(run: run_dir.RunDir) -> None:
    with metrics.MetricsWriter(run.metrics_path) as writer:
        for step in range(41, 43):
            values = {"group/signal_fraction": 0.4, "group/expected_signal_fraction": 0.6}
            writer.write("grpo_uniform", step, values)
    text = report.write(run.path).read_text("utf-8")
    assert text.count('class="line s2 dashed"') + text.count('class="line s1 dashed"') == 1
    assert "expected <b>60 %</b>" in text


def test_large_runs_stay_readable(run: run_dir.RunDir) -> None:
    with metrics.JsonlLog(run.trajectories_path) as log:
        for step in range(4, 1004):
            log.append(trajectory(step, "x" * 30_000 if step == 1003 else "y"))
    data = json.loads(Page(report.write(run.path).read_text("utf-8")).scripts[0])
    assert len(data) == report.MAX_TRAJECTORIES
    assert (data[0]["step"], data[-1]["step"]) == (1, 1003)
    assert "10000 more characters" in data[-1]["question"]


def test_ticks_cover_with_round_numbers() -> None:
    assert choose_ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert choose_ticks(0.33, 0.71)[0] <= 0.33 and choose_ticks(0.33, 0.71)[-1] >= 0.71
    assert choose_ticks(5.0, 5.0)[0] < 5.0 < choose_ticks(5.0, 5.0)[-1]
    # What is always 0 is not shown between -100 and 100 %.
    assert choose_ticks(0.0, 0.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert choose_ticks(-2.0, -2.0)[0] < -2.0 < choose_ticks(-2.0, -2.0)[-1]
    assert len(choose_ticks(-1e-9, 1e9)) < 20


def test_smoothing_and_thinning_keep_means() -> None:
    points = [(float(x), float(x % 2)) for x in range(1000)]
    assert compute_trailing_mean(points[:4], 2) == [(0, 0.0), (1, 0.5), (2, 0.5), (3, 0.5)]
    few = downsample(points, 100)
    assert len(few) == 100 and all(y == 0.5 for _, y in few)


def test_chart_draws_every_series_and_mark() -> None:
    series = [
        Series(name="a<b", color=1, points=((1, 0.0), (2, 1.0))),
        Series(name="one point", color=2, points=((1, 0.5),)),
        Series(name="empty", color=3, points=()),
    ]
    chart = draw_line_chart(
        "title", series, marks=[Mark(x=2, label="stage 2"), Mark(x=9, label="far")]
    )
    assert chart.count("<polyline") == 1 and chart.count("<circle") == 1
    assert "a&lt;b" in chart and "empty" not in chart
    assert "stage 2" in chart and "far" not in chart
    # The label stands above the lines, of which the highest point is at the top of the grid.
    top = min(float(y) for y in re.findall(r'class="grid"[^>]* y1="([\d.]+)"', chart))
    (label,) = re.findall(r'y="([\d.]+)"[^>]*>stage 2<', chart)
    assert 0 < float(label) < top
    assert draw_line_chart("title", [series[2]]) == ""


def texts(value: Any) -> list[str]:
    """Every text of a JSON value."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inner for text in texts(each)]


def longest_run_of_marks(text: str) -> int:
    """Combining marks and invisible characters in a row, of which layout makes one cluster."""
    kinds = "".join(
        "m" if unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") else " "
        for character in text
    )
    return max(map(len, kinds.split(" ")))


@pytest.mark.parametrize(
    "hostile",
    {
        "accents": "a" + "\u0301" * 50_000,
        "enclosing": "a" + "\u20dd" * 50_000,
        "joiners": "\u200d" * 50_000,
        "overrides": "\u202e" * 50_000,
        "one line": "\u0628" * 50_000,
        "short lines": "\n" * 50_000,
        "half characters": "\ud800" * 50_000,
    }.values(),
)
def test_hostile_text_is_laid_out_at_once(run: run_dir.RunDir, hostile: str) -> None:
    """Layout takes time by the square of a cluster's and of a line's length."""
    record = trajectory(4, hostile)
    record["segments"] *= 50
    with metrics.JsonlLog(run.trajectories_path) as log:
        log.append(record)
    with metrics.JsonlLog(run.potential_path) as log:
        question = {"example_id": "x", "task": hostile, "p": 0.5, "potential": 1.0}
        log.append(question | {"group": 1})
    page = Page(report.write(run.path).read_text("utf-8"))
    *_, row = json.loads(page.scripts[0])
    shown = texts(row)
    assert sum(map(len, shown)) < 2 * MAX_RECORD + 100 * len(shown)
    for text in [*shown, *page.texts]:
        assert longest_run_of_marks(text) <= MAX_MARKS
        assert max(map(len, text.split("\n"))) <= MAX_LINE + MAX_MARKS


def test_honest_text_is_shown_as_it_is() -> None:
    for text in (
        "",
        "é\n" * 300,
        "नमस्ते, 中文, \N{WOMAN}\u200d\N{MICROSCOPE} " * 20,
        "x" * MAX_LINE,
    ):
        assert make_readable(text) == text


def test_deep_records_are_cut() -> None:
    record: dict[str, Any] = {"question": "q"}
    for _ in range(90):
        record = {"inner": [record]}
    assert texts(shorten_record(record)) == ["[… more levels, see the .jsonl]"]
