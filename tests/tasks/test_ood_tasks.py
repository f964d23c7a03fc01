"""GPQA Diamond and AIME: files of the published layout, scoring, downloading; items are ours."""

import csv
import json
import pathlib
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import question_splits
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import published_files, registry
from r1ci_jax.tasks.hub_files import HubFile
from r1ci_jax.tasks.ood import ood_tasks

COLUMNS = (
    "Pre-Revision Question",
    "Question",
    "Correct Answer",
    "Incorrect Answer 1",
    "Incorrect Answer 2",
    "Incorrect Answer 3",
    "High-level domain",
    "Record ID",
)


def gpqa(question: str, *options: str) -> dict[str, str]:
    right, *wrong = options
    others = {f"Incorrect Answer {number}": text for number, text in enumerate(wrong, start=1)}
    facts = {"Correct Answer": right, "High-level domain": "Physics", "Record ID": "rec"}
    return {"Pre-Revision Question": "older", "Question": question, **facts, **others}


GPQA = (
    gpqa("Which is\nlargest, as written?", "a sea,\n wide", '"a pond"', "a cup", "a drop"),
    gpqa("How many moons has the Earth?", "1", "2", "3", "4"),
    gpqa("Which pair is equal?", "same", "Same ", "other", "third"),
    gpqa("Which answer is lost?", "one", "two", "three", ""),
)


def write_gpqa(folder: pathlib.Path) -> pathlib.Path:
    place = folder / "ood" / "gpqa_diamond.csv"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(GPQA)
    return place


def write_aime(folder: pathlib.Path, name: str, *rows: dict[str, Any]) -> ood_tasks.OodTask:
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    published_files.write(f"ood/{name}.jsonl", folder, lines.encode())
    return ood_tasks.make(name, folder)


def test_gpqa_is_scored_by_letter_or_text(tmp_path: pathlib.Path) -> None:
    write_gpqa(tmp_path)
    task = ood_tasks.make("gpqa_diamond", tmp_path)
    assert task.count() == 2
    assert [(drop.index, drop.reason) for drop in task.dropped_items()] == [
        (2, "two of its options are the same"),
        (3, "no text under Question, Correct Answer or Incorrect Answer 1 to 3"),
    ]
    for index in range(2):
        example = task.generate(index, 0, 1)
        options = json.loads(example.metadata)["options"]
        row = GPQA[json.loads(example.metadata)["number"]]
        right = " ".join(row["Correct Answer"].split())
        letter = "ABCD"[options.index(right)]
        assert f"({letter}) {right}\n" in example.question and "older" not in example.question
        assert task.gold(example) == f"({letter})"
        for text in (letter, f"({letter})", f"**{letter}**", f"({letter}).", right):
            assert task.score(example, text).correct, text
        others = [each for each in "ABCD" if each != letter]
        for text in (*others, "E", "", f"{letter} or {others[0]}", "ABCD", options[0] + "x"):
            assert not task.score(example, text).correct, text


def test_the_options_stand_in_another_order_for_each_question(tmp_path: pathlib.Path) -> None:
    rows = [gpqa(f"Question {number}?", "right", "b", "c", "d") for number in range(40)]
    items = [ood_tasks.make("gpqa_diamond", tmp_path).item(0, row) for row in rows]
    letters = [item.answer for item in items]
    assert set(letters) == {"(A)", "(B)", "(C)", "(D)"} and max(map(letters.count, letters)) < 20
    assert letters == [ood_tasks.make("gpqa_diamond").item(0, row).answer for row in rows]


@pytest.mark.parametrize(
    "row",
    [
        {"ID": "2024-I-1", "Problem": "One plus one?", "Solution": "2", "Answer": 2},
        {"problem": "One plus one?", "answer": "2", "id": "0"},
        {"question": "One plus one?", "answer": "002"},
        {"question": "One plus one?", "answer": "2^\\circ"},
    ],
)
def test_aime_has_one_integer_whatever_the_file_calls_its_fields(
    row: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    task = write_aime(tmp_path, "aime_2025", row)
    example = task.generate(0, 0, 1)
    assert example.question == "One plus one?\n\nAnswer with a single integer from 0 to 999."
    for text in ("2", "002", " 2\n", "$2$", "\\boxed{2}"):
        assert task.score(example, text).correct, text
    for text in ("", "3", "2 or 3", "two", "1+1", "2^\\circ"):
        assert not task.score(example, text).correct, text


def test_rows_without_a_usable_answer_are_dropped(tmp_path: pathlib.Path) -> None:
    rows = [{"problem": "a", "answer": "1000"}, {"problem": "", "answer": 1}, {"problem": "b"}]
    task = write_aime(tmp_path, "aime_2024", *rows)
    assert [drop.reason for drop in task.dropped_items()] == [
        "no integer from 0 to 999 under answer",
        "no text under problem or question",
        "no integer from 0 to 999 under answer",
    ]


def test_they_are_for_evaluation_and_not_among_the_papers(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.names(suite="ood") == ood_tasks.NAMES
    assert "ood" not in registry.PAPER_SUITES
    monkeypatch.setenv(published_files.VARIABLE, str(tmp_path))
    write_aime(tmp_path, "aime_2024", *({"problem": f"{n}?", "answer": n} for n in range(5)))
    task = registry.get("aime_2024")
    assert (task.suite, task.split) == ("ood", "test")
    asked = DatasetConfig(tasks=("aime_2024",), eval_per_task=200)
    drawn = question_splits.generate_splits(task, asked, seed=0)
    assert {split: len(rows) for split, rows in drawn.items()} == {"sft": 0, "grpo": 0, "eval": 5}


def test_fetching(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = write_gpqa(tmp_path / "hub")
    asked: list[str] = []

    def download(source: HubFile) -> pathlib.Path:
        asked.append(source.file)
        if source.file.endswith(".csv"):
            return published
        place = tmp_path / pathlib.PurePath(source.file).name
        rows = [{"Problem": f"{source.file} {n}?", "Answer": n} for n in range(2)]
        if source.file.endswith(".parquet"):
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), place)
        else:
            place.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return place

    data = tmp_path / "data"
    with pytest.raises(UserError, match="has 4 rows, not 198") as caught:
        ood_tasks.fetch("gpqa_diamond", data, download=download)
    assert "\n" not in str(caught.value) and not data.exists()
    few = {
        name: tuple(
            HubFile(
                repository=source.repository,
                revision=source.revision,
                file=source.file,
                count=4 if name == "gpqa_diamond" else 2,
            )
            for source in sources
        )
        for name, sources in ood_tasks.HUB.items()
    }
    monkeypatch.setattr(ood_tasks, "HUB", few)
    for name, count in {"gpqa_diamond": 2, "aime_2024": 2, "aime_2025": 4}.items():
        assert ood_tasks.fetch(name, data, download=download)
        assert not ood_tasks.fetch(name, data, download=download)
        assert ood_tasks.make(name, data).count() == count
    assert (data / "ood/gpqa_diamond.csv").read_bytes() == published.read_bytes()
    assert len(asked) == 1 + 4


def test_a_missing_file_is_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # --data-dir sets the variable for the whole process, and is undone with it.
    monkeypatch.setenv(published_files.VARIABLE, str(tmp_path))
    asked = ["tasks", "sample", "gpqa_diamond", "--data-dir", str(tmp_path)]
    assert main(asked) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "ood/gpqa_diamond.csv is missing; run r1ci data fetch --ood," in line
