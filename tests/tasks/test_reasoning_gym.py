"""The Reasoning-Gym tasks. Without the package every test here fails; none is skipped."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.reasoning_gym import gym_scoring, gym_tasks
from r1ci_jax.tasks.reasoning_gym.choice import LEFT_OUT
from r1ci_jax.tasks.reasoning_gym.gym_rules import numbers, shown_number
from r1ci_jax.tasks.reasoning_gym.gym_scoring import JailScorer, Job
from r1ci_jax.tasks.reasoning_gym.gym_tasks import CHOSEN, NAMES, make

ENTRIES = 20
DIGEST_ENTRIES = 2
PACKAGED = tuple(name for name in NAMES if CHOSEN[name[3:]].rule == "package")
EVALUATING = (
    "rg_simple_integration",
    "rg_intermediate_integration",
    "rg_polynomial_multiplication",
    "rg_countdown",
    "rg_spiral_matrix",
    "rg_binary_matrix",
)
"""Their scorers in the package hand the answer to eval or sympy; here others take their place."""
HOSTILE = (
    '__import__("os").system("touch /tmp/r1ci_rg_was_here")',
    '().__class__.__base__.__subclasses__()[0].__init__.__globals__["os"].abort()',
    "9**9**9**9",
    "(9**9)**(9**9)",
    "factorial(9**9)",
    "x" * 10_000_000,
    "(" * 100_000,
    "[" * 1000 + "]" * 1000,
    "-" * 3999 + "1",
    "**" * 190 + "!",
    "1" * 390 + "!",
    "\x00",
)


def sample(name: str, count: int) -> list[Example]:
    task = make(name)
    levels = task.difficulties
    return [task.generate(i // len(levels), 7, levels[i % len(levels)]) for i in range(count)]


def judged(name: str, pairs: Sequence[tuple[Example, str]]) -> list[bool]:
    return [verdict.correct for verdict in make(name).score_all(pairs)]


@pytest.fixture(scope="module")
def examples() -> dict[str, list[Example]]:
    return {name: sample(name, ENTRIES) for name in NAMES}


def test_eighty_four_are_chosen_and_the_rest_is_left_out_with_a_reason() -> None:
    assert importlib.metadata.version("reasoning_gym") == "0.1.25"
    program = (
        "import json; from reasoning_gym.factory import DATASETS; print(json.dumps([*DATASETS]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    registered = set(json.loads(done.stdout)) - {"composite"}
    assert len(NAMES) == len(set(NAMES)) == 84
    assert {*CHOSEN, *LEFT_OUT} == registered
    assert not set(CHOSEN) & set(LEFT_OUT)
    assert all(LEFT_OUT.values()) and all(choice.why for choice in CHOSEN.values())
    for choice in CHOSEN.values():
        assert choice.kind in {"execution", "planning", "reasoning"}
        assert choice.form and choice.levels in {1, 2, 5}
        assert {len(values) for values in choice.ladder.values()} <= {choice.levels}
        assert choice.shape or choice.rule not in {"package", "countdown", "polynomial"}


@pytest.mark.parametrize("name", NAMES)
def test_golds_are_right_also_with_white_space_around(
    name: str, examples: dict[str, list[Example]]
) -> None:
    task = make(name)
    golds = [(example, task.gold(example) or "") for example in examples[name]]
    assert all(gold for _, gold in golds)
    assert judged(name, golds) == [True] * ENTRIES
    assert judged(name, [(example, f" {gold}\n") for example, gold in golds]) == [True] * ENTRIES
    assert len({example.question for example, _ in golds}) >= 0.9 * ENTRIES
    assert all(example.question.strip() == example.question for example, _ in golds)


@pytest.mark.parametrize("name", NAMES)
def test_cheap_answers_are_wrong(name: str, examples: dict[str, list[Example]]) -> None:
    task = make(name)
    for example in examples[name]:
        gold = task.gold(example) or ""
        cheap = ("", " ", "0", "None", "I do not know", example.question, f"{gold}\n{gold}1")
        own = numbers(gold)  # 0 is 0.0
        pairs = [
            (example, text)
            for text in (*cheap, f"{gold} or 1")
            if text != gold and (own is None or numbers(text) != own)
        ]
        assert not any(judged(name, pairs)), example.id


@pytest.mark.parametrize("name", NAMES)
def test_the_gold_of_another_item_is_wrong(name: str, examples: dict[str, list[Example]]) -> None:
    task, items = make(name), examples[name]
    step = len(task.difficulties)
    golds = [task.gold(example) or "" for example in items]
    shifted = golds[step:] + golds[:step]
    pairs = [
        (item, other)
        for item, own, other in zip(items, golds, shifted, strict=True)
        if own != other
    ]
    allowed = CHOSEN[name[3:]].foreign
    assert sum(judged(name, pairs)) <= allowed * len(items), name


def test_answers_with_the_largest_share() -> None:
    """A constant scores less than the share that the table names for the task, or than 30 %."""
    for name in NAMES:
        task, count = make(name), 60
        golds = [task.gold(example) for example in sample(name, count)]
        share = max(map(golds.count, golds)) / count
        assert share <= CHOSEN[name[3:]].constant, (name, share)


# ---- the same questions everywhere -------------------------------------------------------------

_ELSEWHERE = """
import json, sys
from r1ci_jax.tasks.reasoning_gym.gym_tasks import NAMES
from tests_reasoning_gym import digest
print(json.dumps({name: digest(name) for name in NAMES}))
"""


def digest(name: str) -> str:
    task = make(name)
    rows = [
        json.dumps([example.question, example.answer, example.metadata])
        for level in task.difficulties[:: max(1, len(task.difficulties) - 1)]
        for example in (task.generate(index, 3, level) for index in range(DIGEST_ENTRIES))
    ]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def test_another_process_with_another_hash_seed_draws_the_same(tmp_path: Path) -> None:
    (tmp_path / "tests_reasoning_gym.py").write_bytes(Path(__file__).read_bytes())
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        env={**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": path},
        capture_output=True,
        check=True,
    )
    # Backwards, so that what a data set leaves behind in the process would show.
    here = {name: digest(name) for name in reversed(NAMES)}
    assert json.loads(done.stdout) == here


def test_indices_seeds_and_difficulties_are_unrelated() -> None:
    for name in ("rg_ransom_note", "rg_chain_sum", "rg_acre"):
        task = make(name)
        here = {task.generate(index, 0, 1).question for index in range(30)}
        there = {task.generate(index, 1, 1).question for index in range(30)}
        assert len(here) == len(there) == 30 and not here & there
    seeds = {
        gym_tasks.dataset_seed(name, seed, level)
        for name in NAMES
        for seed in range(20)
        for level in range(1, 6)
    }
    assert len(seeds) == len(NAMES) * 100


@pytest.mark.parametrize("name", ("rg_ab", "rg_acre", "rg_gsm_symbolic", "rg_list_functions"))
def test_a_large_index_costs_no_more_than_a_small_one(name: str) -> None:
    task = make(name)
    task.generate(0, 0, 1)
    example = task.generate(10**9, 0, 1)  # would take hours, were all before it made
    assert example == task.generate(10**9, 0, 1)
    assert judged(name, [(example, task.gold(example) or "")]) == [True]


# ---- hostile answers and the jail ---------------------------------------------------------------


@pytest.mark.parametrize("name", EVALUATING)
def test_hostile_answers_are_wrong_and_the_next_is_judged(
    name: str, examples: dict[str, list[Example]]
) -> None:
    task, example = make(name), examples[name][0]
    gold = task.gold(example) or ""
    for text in HOSTILE:
        task.score(example, gold)  # the jail is there
        assert not task.score(example, text).correct, text[:40]
    assert task.score(example, gold).correct
    assert not os.path.exists("/tmp/r1ci_rg_was_here")


def test_no_task_lets_hostile_text_pass(examples: dict[str, list[Example]]) -> None:
    for name in NAMES:
        assert not any(judged(name, [(examples[name][0], text) for text in HOSTILE])), name


def test_an_answer_that_hangs_is_ended_and_the_next_is_judged(
    examples: dict[str, list[Example]],
) -> None:
    entry = json.loads(examples["rg_simple_integration"][0].metadata)["entry"]
    right, slow = entry["answer"], "(x+sin(x))**99*(x+exp(x))**99*(x+log(x))**99"
    jobs = [
        Job(dataset="simple_integration", config="{}", entry=entry, answer=answer)
        for answer in (right, slow, right, "0", right)
    ]
    assert JailScorer().scores(jobs) == [1.0, None, 1.0, 0.0, 1.0]


def test_another_judge_can_be_plugged_in(examples: dict[str, list[Example]]) -> None:
    asked: list[Job] = []

    class Strict:
        def scores(self, jobs: Sequence[Job]) -> list[float | None]:
            asked.extend(jobs)
            return [None for _ in jobs]

    example = examples["rg_jugs"][0]
    task = make("rg_jugs", Strict())
    assert not task.score(example, task.gold(example) or "").correct
    assert [job.dataset for job in asked] == ["jugs"]


def test_a_missing_package_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym_scoring, "_WORKER", "/nowhere/reasoning_gym_worker.py")
    with pytest.raises(UserError, match="reasoning-gym"):
        gym_scoring.GeneratorWorker()


def test_golds_score_also_when_they_come_again(examples: dict[str, list[Example]]) -> None:
    """The time that ten thousand answers take is measured by benchmarks/data.py."""
    for name in NAMES:
        task = make(name)
        golds = [(example, task.gold(example) or "") for example in examples[name]]
        assert all(judged(name, golds + golds))


# ---- single rules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("208849364.996000", True),  # as the question shows it
        ("208849364.996", True),
        ("208,849,364.996", True),
        ("2.08849364996e+08", True),
        ("208849364.99600002", True),  # the gold
        ("208849364.995999", False),
        ("208849364.99", False),  # the package's tolerance
        ("208849365.001", False),  # another candidate, within the tolerance
        ("20,8849,364.996", False),
        ("1e999", False),
        ("nan", False),
    ],
)
def test_a_number_is_right_as_the_question_shows_it(answer: str, right: bool) -> None:
    metadata = {
        "candidates": [208849364.99600002, 208849365.001],
        "formatted_candidates": ["208849364.996000", "208,849,365.001"],
        "solution": 208849364.99600002,
    }
    assert shown_number("208849364.99600002", answer, {"metadata": metadata}) is right


def test_numbers_are_read_strictly() -> None:
    assert numbers("['-1.50', '2']") == numbers("-1.5, 2.0")
    assert numbers("[1,2") is None
    assert numbers("1 or 2") is None
    assert numbers("nan") is None
    assert numbers("1e5") is None


def test_a_survo_answer_may_differ_from_the_stored_one() -> None:
    puzzle = [[1, 0, 0, 6], [3, 0, 0, 6], [5, 6, 7, 18], [9, 9, 12, 30]]
    example = Example(
        id="x",
        task="rg_survo",
        question="?",
        answer=json.dumps("1 2 3 6\n3 1 2 6\n5 6 7 18\n9 9 12 30"),
        difficulty=1,
        metadata=json.dumps(
            {"entry": {"metadata": {"puzzle": puzzle, "candidate_numbers": [2, 3, 1, 2]}}}
        ),
    )
    task = make("rg_survo")
    right = "1 2 3 6\n3 1 2 6\n5 6 7 18\n9 9 12 30"
    assert task.score(example, right).correct
    assert not task.score(example, right.replace("1 2 3 6", "1 3 2 6")).correct  # column sums
    assert not task.score(example, right.replace("5 6 7 18", "5 7 6 18")).correct  # given cells
    assert not task.score(example, right + "\n1").correct


def _stored(task: str, answer: str, **metadata: object) -> Example:
    return Example(
        id="x",
        task=f"rg_{task}",
        question="?",
        answer=json.dumps(answer),
        difficulty=1,
        metadata=json.dumps({"entry": {"answer": answer, "metadata": metadata}}),
    )


_COUNTDOWN = _stored("countdown", "9*(8 - 2)", numbers=[8, 9, 2], target=54)
_POLYNOMIAL = _stored("polynomial_multiplication", "24*z**4 - 4*z")
_GRAPH = _stored(
    "graph_color",
    "",
    puzzle={"vertices": [0, 1, 2], "edges": [[0, 1], [1, 2]], "color_options": [1, 2]},
)
_ISLAND = _stored("knights_knaves", "Ann is a sage, and Bob is a fool.")
_PARTS = _stored("palindrome_partitioning", '[["a", "a", "b"], ["aa", "b"]]')
_SUM = _stored(
    "cryptarithm",
    "A=1,B=2,C=3",
    letters=["A", "B", "C"],
    words_letters=["A", "B"],
    result_letters="C",
)
_JUMBLE = _stored("letter_jumble", "this hear answer")
_HEX = _stored("bitwise_arithmetic", "-0x5ab3")


@pytest.mark.parametrize(
    ("example", "right", "wrong"),
    [
        (
            _COUNTDOWN,
            ("9*(8 - 2)", "-9*(2-8)", "(8-2)*9"),
            ("9*8 - 2", "9*6", "9*(8-2)*1", "54", "9*(8-2", "9*(8-2)+0", "(8-2)9", "9/(8-2-6)"),
        ),
        (
            _POLYNOMIAL,
            ("24*z**4 - 4*z", "-4*z + 24*z**4", "12*2*z**4 - 4*z + 0", "25*z**4 - z**4 - 4*z"),
            ("24*z**4 + 4*z", "24*z**4", "24*x**4 - 4*z", "24*z*4 - 4*z", "24*z**4 - 4*z + 1"),
        ),
        (
            _GRAPH,
            ('{"0": 1, "1": 2, "2": 1}', '{"2": 2, "1": 1, "0": 2}'),
            (
                '{"0": 1, "1": 1, "2": 2}',
                '{"0": 1, "1": 2}',
                '{"0": 1, "1": 2, "2": 1, "9": 1}',
                '{"0": 1, "1": 2, "2": 3}',
                '{"0": 1, "1": 2, "2": 1, "2": 1}',
            ),
        ),
        (
            _ISLAND,
            ("Ann is a sage, and Bob is a fool", "Bob is a fool and Ann is a sage."),
            (
                "Ann is a sage, and Bob is a sage.",
                "Ann is a sage",
                "Ann is a sage, and Bob is a fool. Ann is a fool",
                "Ann is a sage, Ann is a sage, and Bob is a fool",
                "Ann is a sage, and Bob is a fool or so",
            ),
        ),
        (
            _PARTS,
            ('[["aa", "b"], ["a", "a", "b"]]',),
            ('[["aa", "b"]]', '[["aa", "b"], ["a", "a", "b"], ["aa", "b"]]', "[[], []]"),
        ),
        (
            _SUM,
            ("A=1,B=2,C=3", "C = 5, A=4, B=1"),
            ("A=1,B=2,C=4", "A=1,B=2", "A=1,A=2,B=2,C=4", "A=1,B=1,C=2", "A=1,B=2,C=3,D=4"),
        ),
        (
            _JUMBLE,
            ("this hear answer", "This  hear answer"),
            ("this hear answer again", "this hear", "answer hear this", "this hear answer answer"),
        ),
        (_HEX, ("-0x5ab3", "-0x05AB3"), ("0x5ab3", "-0x5ab", "-5ab3", "-23219")),
    ],
    ids=lambda value: value.task if isinstance(value, Example) else "",
)
def test_rules_of_our_own(example: Example, right: Sequence[str], wrong: Sequence[str]) -> None:
    task = make(example.task)
    assert [text for text in right if not task.score(example, text).correct] == []
    assert [text for text in wrong if task.score(example, text).correct] == []


def test_antiderivatives_are_compared_without_evaluating_them() -> None:
    entry = {"metadata": {"variable": "x", "integrand": "15*x**2/2 - 3/5"}}
    right = ("5*x**3/2 - 3*x/5 + C", "2.5*x**3 - 0.6*x", "C - x*3/5 + x**3*(2 + 1/2) + exp(2)")
    wrong = ("5*x**3/2", "x**3", "C", "5*X**3/2 - 3*X/5", "x.diff", "exp", "x**x**x", "f(x)")
    jobs = [
        Job(dataset="simple_integration", config="{}", entry=entry, answer=answer)
        for answer in (*right, *wrong)
    ]
    assert JailScorer().scores(jobs) == [1.0] * len(right) + [0.0] * len(wrong)


_ON_A_DAY = """
import datetime, json, sys
class Day(datetime.date):
    @classmethod
    def today(cls):
        return cls.fromisoformat(sys.argv[1])
class Moment(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(sys.argv[1])
datetime.date, datetime.datetime = Day, Moment
sys.path.insert(0, sys.argv[2])
import generator_process
config = json.dumps({"task_types": ["time", "time_seconds", "time_ms", "date"]})
request = {"dataset": "time_intervals", "config": config, "seed": 5, "chunk": 0, "refused": ""}
print(json.dumps([generator_process.generate(request | {"index": n}) for n in range(12)]))
"""


def test_questions_do_not_depend_on_the_day() -> None:
    folder = str(Path(gym_scoring.__file__).parent)
    made = [
        subprocess.run(
            [sys.executable, "-P", "-c", _ON_A_DAY, day, folder], capture_output=True, check=True
        ).stdout
        for day in ("2024-02-29", "2031-12-31")
    ]
    assert made[0] == made[1]
    assert len(json.loads(made[0])) == 12


@pytest.mark.parametrize("name", PACKAGED)
def test_package_scores_below_one_are_wrong(name: str, examples: dict[str, list[Example]]) -> None:
    class Nearly:
        def scores(self, jobs: Sequence[Job]) -> list[float | None]:
            return [0.99 for _ in jobs]

    task, example = make(name, Nearly()), examples[name][0]
    assert not task.score(example, task.gold(example) or "").correct
