"""The registry: the paper's 144 tasks, their fixed split, the pages made from them."""

import json
import pathlib
import random
import subprocess
import sys

import pytest

from r1ci_jax.cli.main import main
from r1ci_jax.config import DatasetConfig
from r1ci_jax.data import question_splits
from r1ci_jax.errors import UserError
from r1ci_jax.tasks import catalogue, check, registry, train_test_split
from r1ci_jax.tasks.symbench import released_items

ROOT = pathlib.Path(__file__).parents[2]


def paper_names() -> list[str]:
    return [name for suite in registry.PAPER_SUITES for name in registry.names(suite=suite)]


def test_the_papers_144_tasks() -> None:
    counts = {suite: len(registry.names(suite=suite)) for suite in registry.PAPER_SUITES}
    assert counts == {"symbench": 33, "bbh": 27, "reasoning_gym": 84}
    names = [name for name in registry.names() if name not in registry.registered()]
    assert len(set(names)) == len(names) == 144 + 6 + 2 + 3


def test_the_split_is_the_one_that_its_file_says_was_drawn() -> None:
    drawn = random.Random("r1ci_jax 107/37").sample(sorted(paper_names()), 37)
    assert sorted(drawn) == sorted(train_test_split.TEST) == list(train_test_split.TEST)
    splits = [registry.get(name).split for name in paper_names()]
    assert (splits.count("train"), splits.count("test")) == (107, 37)


def test_every_task_says_what_it_is() -> None:
    for name in paper_names():
        task = registry.get(name)
        assert task.kind in ("execution", "planning", "reasoning"), name
        assert task.answer_format and task.difficulties, name


@pytest.mark.parametrize("name", ["toy_letters", "bbh_navigate", "rg_lcm"])
def test_another_difficulty_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} has no difficulty 99; it has: 1"):
        registry.get(name).generate(index=0, seed=0, difficulty=99)


def test_score_takes_what_gold_gives_and_not_the_stored_json() -> None:
    task = registry.get("blocksworld")
    example = task.generate(index=0, seed=0, difficulty=1)
    gold = task.gold(example)
    assert gold is not None and task.score(example, gold).correct
    assert json.loads(example.answer) == gold != example.answer


def test_the_pages_are_those_of_the_registry() -> None:
    assert (ROOT / "docs/tasks.md").read_text() == catalogue.render_markdown()


def test_the_list_of_dropped_questions_is_that_of_the_files(
    shared_data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1CI_DATA", str(shared_data))
    assert (ROOT / "docs/dropped.md").read_text() == catalogue.count_dropped()


def test_released_layout_of_folders(tmp_path: pathlib.Path, shared_data: pathlib.Path) -> None:
    lines = (shared_data / "symbench/pooling.jsonl").read_text().splitlines()[:3]
    for number, line in enumerate(lines):
        place = tmp_path / "pooling" / f"sample_{number}"
        place.mkdir(parents=True)
        row = json.loads(line)
        (place / "question.txt").write_text(row["question"])
        (place / "solution.json").write_text(json.dumps(row["solution"]))
    (judged,) = released_items.score_released(tmp_path)
    assert (judged.task, judged.items, judged.num_scored) == ("pooling", 3, 3)


def test_released_layouts_of_one_file_each(
    tmp_path: pathlib.Path, shared_data: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (boxes, *_) = (shared_data / "symbench/boxlift.jsonl").read_text().splitlines()
    (blocks, *_) = (shared_data / "symbench_v2/blocksworld.jsonl").read_text().splitlines()
    (squares, *_) = (shared_data / "symbench/boxnet.jsonl").read_text().splitlines()
    for name, text in (
        ("BoxLift_dataset/BoxLift_10_3/BoxLift0/BoxLift.json", boxes),
        ("Blocksworld_dataset/10_3_3_1/blocksworld_task.txt", json.loads(blocks)["text"]),
        (
            "BoxNet1_dataset/env_pg_state_1_2/pg_state0/pg_state0.json",
            json.dumps(json.loads(squares)["state"]),
        ),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    judged = released_items.score_released(tmp_path)
    found = {one.task: (one.items, one.searched, one.num_solved) for one in judged}
    assert found == dict.fromkeys(("blocksworld", "boxlift", "boxnet_actions"), (1, 1, 1))
    assert main(["tasks", "check", "--released", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("golds 0/0 of 1 items, solved 1/1") == 3
    assert "3 of 3 tasks pass" in printed


def test_a_folder_without_items_is_a_users_mistake(tmp_path: pathlib.Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError):
            released_items.score_released(folder)


def test_tasks_for_testing_give_questions_for_evaluation_only() -> None:
    wanted = DatasetConfig(
        tasks=("pooling",), difficulties=(1,), sft_per_task=5, grpo_per_task=4, eval_per_task=3
    )
    # A game outside the 144 may be trained on.
    drawn = question_splits.generate_splits(registry.get("gridworld_moves"), wanted, seed=0)
    assert {name: len(rows) for name, rows in drawn.items()} == {"sft": 5, "grpo": 4, "eval": 3}
    drawn = question_splits.generate_splits(registry.get("reversi"), wanted, seed=0)
    assert {name: len(rows) for name, rows in drawn.items()} == {"sft": 0, "grpo": 0, "eval": 3}
    drawn = question_splits.generate_splits(registry.get("pooling"), wanted, seed=0)
    assert {name: len(rows) for name, rows in drawn.items()} == {"sft": 5, "grpo": 4, "eval": 3}


def test_published_questions_are_split_without_overlap(
    shared_data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1CI_DATA", str(shared_data))
    wanted = DatasetConfig(
        tasks=("pooling",),
        difficulties=(1, 2),
        sft_per_task=100,
        grpo_per_task=50,
        eval_per_task=20,
    )
    drawn = question_splits.generate_splits(registry.get("bbh_navigate"), wanted, seed=3)
    asked = [example.question for rows in drawn.values() for example in rows]
    assert len(asked) == len(set(asked)) == 170
    # Asked for more than there is, all is given, and split as before.
    greedy = DatasetConfig(
        tasks=("pooling",), difficulties=(1,), sft_per_task=500, grpo_per_task=50, eval_per_task=20
    )
    task = registry.get("bbh_navigate")
    everything = question_splits.generate_splits(task, greedy, seed=3)
    assert sum(map(len, everything.values())) == task.count()


def test_a_task_of_ones_own_in_forty_lines(tmp_path: pathlib.Path) -> None:
    """The example of CONTRIBUTING, as it stands there, is a task that passes the check."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    code = text.split("```python\n# my_tasks.py\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 40
    (tmp_path / "my_tasks.py").write_text(code)
    program = """
from r1ci_jax.tasks import check, registry
registry.register("digit_sum", "my_tasks:DigitSum", suite="mine")
task = registry.get("digit_sum")
report = check._check_task(task, 0, 200, check.digest(check.sample_examples(task, 0, 200)))
assert report.is_passed, report
assert "digit_sum" in registry.names(suite="mine") and task.split == "train"
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["eight_queens", "letters", "pooling"])
def test_the_check_passes(name: str) -> None:
    """Where answers of other items may fit, where forms vary, where one answer is right."""
    task = registry.get(name)
    report = check._check_task(task, 7, 60, check.digest(check.sample_examples(task, 7, 60)))
    assert report.is_passed, report


@pytest.mark.parametrize("line", ["[" * 100_000, '{"question": 5}', "null", '{"question": "\\ud8'])
def test_a_broken_release_is_one_line(tmp_path: pathlib.Path, line: str) -> None:
    (tmp_path / "pooling.jsonl").write_text(line)
    with pytest.raises(UserError, match=r"pooling\.jsonl") as caught:
        released_items.score_released(tmp_path)
    assert "\n" not in str(caught.value)


DEEP_OR_HALF = (
    *("[" * 5000 + "]" * 5000, "[" * 150 + "]" * 150, '{"a":' * 900 + "1" + "}" * 900),
    *("(" * 190 + "1" + ")" * 190, "-" * 390 + "1", "\ud800", "**\udfff**.", '["\ud800"]'),
    *('{"0": "\ud800"}', "$\ud800$", "[NaN]", "\ud83d" * 300, "\N{MINUS SIGN}" * 50, "\x00"),
)


@pytest.mark.parametrize(
    "name",
    [n for n in registry.names() if not n.startswith(("bbh_", "gsm", "math", "gpqa", "aime"))],
)
def test_deep_answers_and_half_surrogates_are_wrong(
    name: str, shared_data: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1CI_DATA", str(shared_data))
    task = registry.get(name)
    example = task.generate(0, 1, task.difficulties[0])
    verdicts = task.score_all([(example, text) for text in DEEP_OR_HALF])
    assert not any(verdict.correct for verdict in verdicts)
    assert all(verdict.reason.isprintable() for verdict in verdicts)
