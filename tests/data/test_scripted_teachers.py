"""Demonstrations of the real suite: the strategies' shares, slips, the same bytes, resume."""

import collections
import concurrent.futures
import dataclasses
import json
import random
from pathlib import Path

import pytest

from r1ci_jax.config import DatasetConfig, DemonstrationConfig
from r1ci_jax.data import demonstration_stats, external_demonstrations
from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.external import selection
from r1ci_jax.data.external.selection import Made, Rejection, Selection
from r1ci_jax.data.scripted import lengths, slips, strategies
from r1ci_jax.data.scripted.scripted_teachers import ScriptedTeachers
from r1ci_jax.data.scripted.strategies import MULTI_TURN, Kind
from r1ci_jax.data.scripted_teacher import Interpreter
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.tasks import registry
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import protocol

TASKS = ("letters", "number_multiply")
MIX = DemonstrationConfig(multi_turn=0.6)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [
        registry.get(task).generate(index, 5, 1 + index % 3)
        for task in TASKS
        for index in range(24)
    ]


def teach(sandbox: Interpreter, examples: list[Example], directory: Path | None = None) -> Made:
    source = ScriptedTeachers(sandbox=sandbox, seed=1, mix=MIX, directory=directory)
    return source.teach(examples, Selection(70))


@pytest.fixture(scope="module")
def made(interpreter: Interpreter, examples: list[Example]) -> Made:
    return teach(interpreter, examples)


def test_trajectories_are_right_distinct_and_of_all_kinds(
    made: Made, examples: list[Example]
) -> None:
    assert len(made.demonstrations) >= 0.9 * len(examples), made.rejected
    known = {example.id: example for example in examples}
    for each in made.demonstrations:
        answer = protocol.final_answer(each.segments[-1].text)
        assert answer is not None
        assert registry.get(each.task).score(known[each.example_id], answer).correct
    assert len({selection.identity(each) for each in made.demonstrations}) == len(
        made.demonstrations
    )
    kinds = {each.kind for each in made.demonstrations}
    assert kinds >= {"code", "check", "repair", "direct", "two_stage"}
    assert {each.agent for each in made.demonstrations} == {
        "code_agent",
        "all_code",
        "all_text",
        "codesteer",
    }


def test_what_is_wrong_is_read_and_not_learned(made: Made) -> None:
    for each in made.demonstrations:
        masked = [s for s in each.segments if s.role == "assistant" and not s.sampled]
        wanted = each.kind in ("repair", "second_attempt", "steered_wrong")
        assert len(masked) == wanted, each
        assert each.segments[-1].sampled


def test_the_file_is_what_a_run_reads(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    selection.write(path, made.demonstrations)
    found = external_demonstrations.read(str(path), DatasetConfig(tasks=TASKS))
    assert [*found.values()] == [*made.demonstrations]


class _Counting:
    """Runs scripts elsewhere, and fails for good after so many."""

    def __init__(self, inner: Interpreter, most: int = 10**9) -> None:
        self.inner, self.most, self.count = inner, most, 0

    def submit(self, code: str) -> "concurrent.futures.Future[ExecResult]":
        self.count += 1
        if self.count > self.most:
            raise KeyboardInterrupt
        return self.inner.submit(code)


def test_an_interrupted_run_repeats_no_finished_task(
    interpreter: Interpreter, examples: list[Example], made: Made, tmp_path: Path
) -> None:
    whole = _Counting(interpreter)
    half = len(examples) // 2
    teach(whole, examples[:half])
    first_task = whole.count
    with pytest.raises(KeyboardInterrupt):
        teach(_Counting(interpreter, first_task + 3), examples, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{TASKS[0]}.jsonl"]
    again = _Counting(interpreter)
    assert teach(again, examples, tmp_path) == made
    assert again.count > 0
    finished = _Counting(interpreter)
    assert teach(finished, examples, tmp_path) == made and finished.count == 0
    # With other questions it is another file.
    teach(finished, examples[1:half], tmp_path)
    assert finished.count > 0


def test_long_ones_are_written_shorter_until_half_are_short_enough(
    interpreter: Interpreter, examples: list[Example], made: Made
) -> None:
    sizes = [lengths.ESTIMATE.length(each) for each in made.demonstrations]
    limit = sorted(sizes)[len(sizes) // 3]
    mix = dataclasses.replace(MIX, median_tokens=limit, max_tokens=2 * limit)
    source = ScriptedTeachers(sandbox=interpreter, seed=1, mix=mix)
    short = source.teach(examples, Selection(70))
    for task in TASKS:
        own = [lengths.ESTIMATE.length(d) for d in short.demonstrations if d.task == task]
        before = [lengths.ESTIMATE.length(d) for d in made.demonstrations if d.task == task]
        assert max(own) <= 2 * limit and sum(own) <= sum(before)
    assert sum(map(lengths.ESTIMATE.length, short.demonstrations)) < sum(sizes)


def test_as_many_of_the_longest_as_it_takes_are_too_long() -> None:
    found = {0: 10, 1: 90, 2: 80, 3: 70, 4: 20, 5: 300}
    limits = {"most": 200, "median": 50}
    assert lengths.too_long(found, set(), **limits) == [1, 5]
    assert lengths.too_long(found, {1, 5}, **limits) == [2, 3]
    assert lengths.too_long(found, {1, 2, 3, 5}, **limits) == []
    assert lengths.too_long(found, set(), most=85, median=50) == [1, 5]
    assert lengths.too_long(found, set(), most=100, median=80) == [5]
    assert lengths.too_long({}, set(), **limits) == []


def test_an_unknown_form_is_counted(interpreter: Interpreter, examples: list[Example]) -> None:
    odd = dataclasses.replace(examples[0], id="odd", question="What?")
    found = teach(interpreter, [odd, *examples[:3]])
    assert found.rejected[Rejection.OTHER_FORM] == 1 and len(found.demonstrations) >= 2


def test_shares_follow_the_weights_and_what_lacks_goes_to_the_rest() -> None:
    table = strategies.weights(MIX)
    assert sum(table.values()) == pytest.approx(1)
    several = sum(weight for (_, kind), weight in table.items() if kind in MULTI_TURN)
    assert several == pytest.approx(0.7 * 0.6)
    every: set[Kind] = set()
    every.update(kind for _, kind in table)
    chosen = strategies.assign([every] * 1000, table, random.Random(0))
    counts = collections.Counter(chosen)
    assert all(abs(counts[s] - 1000 * weight) <= 2 for s, weight in table.items())
    few: set[Kind] = {"code", "check"}
    counts = collections.Counter(strategies.assign([few] * 1000, table, random.Random(0)))
    assert sum(counts.values()) == 1000 and {kind for _, kind in counts} == few
    ratio = table["code_agent", "check"] / table["code_agent", "code"]
    assert counts["code_agent", "check"] / counts["code_agent", "code"] == pytest.approx(
        ratio, rel=0.02
    )
    assert strategies.assign([set()], table, random.Random(0)) == [("code_agent", "code")]


SCRIPT = """import math

total = 12
def double(value):
    return 2 * value
for number in range(total):
    print(double(number), math.sqrt(number))"""


def test_slips_are_small_and_most_raise(interpreter: Interpreter) -> None:
    found = slips.slips(SCRIPT, random.Random(3))
    assert len(found) >= 5 and all(code != SCRIPT for code, _ in found)
    results = [interpreter.submit(code).result() for code, _ in found]
    assert all(result.status is Status.EXCEPTION for result in results)
    assert len({words.split()[0] for _, words in found}) >= 3


def test_statistics_by_hand(made: Made) -> None:
    rows = demonstration_stats.by_task(made.demonstrations)
    assert [row.task for row in rows] == list(TASKS)
    for row in rows:
        own = [each for each in made.demonstrations if each.task == row.task]
        assert row.count == len(own) and row.duplicates == 0
        assert row.failed_scripts >= sum(each.kind == "repair" for each in own)
        assert sum(row.strategies.values()) == row.count
    twice: list[Demonstration] = [made.demonstrations[0]] * 2
    assert demonstration_stats.by_task(twice)[0].duplicates == 1
    assert json.dumps(dataclasses.asdict(rows[0]))
