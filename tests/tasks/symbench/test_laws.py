"""Laws that all procedural tasks of SymBench keep; what is particular to one is in its own file."""

import collections
import dataclasses
import json
import pathlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base, check, registry
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.procedural import ProceduralTask
from r1ci_jax.tasks.symbench import released_items
from tests.load import at_most

type Drawn = Callable[[Task, int, int], list[Example]]

EACH = 20
"""Items of each level that answers are tried on."""
FEW = 0.1
"""Largest share of a level's questions that one constant may answer, where many answers fit."""
CPU_SECONDS = 20.0
"""Processor time for all hostile texts of an item together: a hundred times what they take."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one task; an exception from the defaults has its reason beside it."""

    released: tuple[int, int, int] = (100, 100, 100)
    """Items of the released sample, stored golds among them, golds that score. The others are the
    defects that the task's module names."""
    newer: int = 0
    """Items of the newer release, which stores no golds."""
    drawings: tuple[int, int, int, int, int] = (450, 450, 450, 450, 450)
    """Questions drawn at each level; fewer where one takes milliseconds."""
    repeats: float = 0.0
    """Largest share of a level's questions that were asked before."""
    commonest: float = 0.01
    """Largest share of the commonest gold among a level's golds."""
    constants: int = 1
    """How many golds are tried as an answer to all questions of their level, the commonest first,
    where many answers fit."""
    lucky: int = 0
    """Golds of other items that may fit, of 300 tried."""
    sample: str = ""
    """The answer that the question shows as an example of the form."""
    hostile: tuple[str, ...] = ()
    """Hostile texts in the form of the task's answers, beside those that every task gets."""


FACTS: dict[str, Facts] = {
    "2048": Facts(sample="[[0, 8], [2, 0]]"),
    "blocksworld": Facts(
        released=(60, 0, 0),  # states without plans, which our search finds
        newer=140,
        drawings=(450, 450, 60, 20, 20),
        repeats=0.01,  # few states of four blocks are far enough from their goal
        sample="Move K from 1 to 2",
        hostile=("Move A from 1 to 2\n" * 1_000, "Move A from 1 to ²"),
    ),
    "boxlift": Facts(
        released=(20, 0, 0),  # boxes and lifters only, whose schedules our search finds
        newer=140,
        drawings=(450, 100, 60, 20, 20),
        sample="Step 1: [(70, [0, 2]), (25, [1])]\nStep 2: [(40, [1])]",
        hostile=(
            "Step 1: [" + "(1, [0]), " * 1_900 + "(1, [0)]",
            "Step 1: [(1, [" + "0, " * 6_000,
            "Step 1: [(1," + " " * 19_000 + "x",
            "Step 1: [(" + "9" * 10_000 + ", [0])]",
            "Step 1: [(__import__('os').system('true'), [0])]",
        ),
    ),
    "boxnet": Facts(
        released=(0, 0, 0),
        newer=60,  # starts and goals only, whose plans our search finds
        sample='[{"box1": "C1,2", "box2": "C2,3"}, {"box1": "C1,3", "box2": "C2,3"}]',
        hostile=(
            '[{"box1": "' + "C1,2" * 4_000 + '"}]',
            "[{" + ",".join(f'"box{n}": "C1,1"' for n in range(1_000)) + "}]",
            "[" + ",".join(["{}"] * 6_000) + "]",
        ),
    ),
    "combinatorial_calculation": Facts(
        released=(75, 75, 75),
        drawings=(450, 450, 450, 20, 20),
        repeats=0.1,  # three digits and a target
        sample="[8, -, (, 1, +, 9, ), /, 5]",
        hostile=(
            "[9, **, 9, **, 9, **, 9]",
            ",".join("(" * 190),
            ",".join(["9999"] + ["*", "9999"] * 35),
        ),
    ),
    "constrained_linear_arrangement": Facts(
        released=(100, 100, 73),
        repeats=0.02,  # three rounds of four cards
        commonest=0.05,  # a list of three letters of four or five
        constants=20,
        lucky=30,  # its own test compares each with trying every way of playing
        sample="[A, C]",
        hostile=("A," * 190,),
    ),
    "cryptanalysis": Facts(
        released=(50, 50, 50),
        drawings=(450, 20, 20, 20, 20),
        hostile=("\u0663\u0664AB", "12ab"),
    ),
    "eight_queens": Facts(
        released=(75, 75, 75),
        drawings=(450, 450, 60, 20, 20),
        repeats=0.01,  # placements are few, and their blocked cells
        commonest=0.05,  # of 92 placements some fit most given queens
        lucky=15,  # its own test tries all 92 and 352 placements on each board
        sample="2 0, 0 1",
        hostile=(", ".join(["0 1"] * 80), "² 1"),
    ),
    "game24": Facts(
        released=(137, 0, 0),  # puzzles without formulas; test_game24.py solves them
        drawings=(600, 600, 450, 20, 20),
        repeats=0.33,  # four numbers up to 16, in order: still 400 different ones
        sample="(7 - 2) * 3 / 5",
        hostile=("(" * 399, "*".join(["9999"] * 80)),
    ),
    "gridworld": Facts(
        released=(0, 0, 0),
        newer=60,  # grids only, whose routes our search finds
        drawings=(450, 450, 100, 60, 60),
        sample='["C1,1", "C2,1", "C2,2"]',
        hostile=('["' + "C1,1" * 4_000 + '"]', "[" + '"C1,1",' * 2_800 + '"C1,1"]'),
    ),
    "letter_logic_diagram": Facts(
        drawings=(450, 60, 40, 20, 20),
        sample="b,a\na,b",
        hostile=("\n" * 300 + "a", "\x00,\ud800,a"),
    ),
    "letters": Facts(
        released=(221, 221, 221),
        commonest=0.03,  # two positions in a word of six letters
        sample="Count: 2, Positions: [3, 5]",
        hostile=(
            "Count: 3, Positions: [" + "9" * 3_900 + "]",
            "Count: 3, Positions: [" + " " * 3_900,
            "Count: 3, Positions: [" + "2, " * 1_300,
            "Count: 3, Positions: [², 4, 6]",
        ),
    ),
    "light_puzzles": Facts(sample="0,1,0,0", hostile=("0," * 190,)),
    "logic_puzzle": Facts(
        released=(100, 100, 87),
        lucky=4,  # its own test compares the scorer with brute force on whole puzzles
        sample="1 0, 2 2, 0 1",
        hostile=("0 " + " " * 390 + "x", "99 99", "² ³"),
    ),
    "logical_equation": Facts(
        released=(75, 75, 75),
        drawings=(450, 450, 60, 20, 20),
        sample="[9, 2, 5]",
        hostile=("2," * 190, "1e5, 2, 3"),
    ),
    "mahjong_pattern": Facts(
        released=(100, 100, 91),
        commonest=0.4,  # there are three answers
        hostile=("1\x002",),
    ),
    "matrix_transformation": Facts(sample="X,Y,Z,1,2,3", hostile=("," * 48,)),
    "new_operator": Facts(
        released=(100, 100, 1),
        commonest=0.02,  # two operations on digits give small numbers
        sample="-17/3",
        hostile=("1/" + "9" * 398, "0." + "9" * 398, "0.0", "0.000", "-5.667"),
    ),
    "number_multiply": Facts(released=(150, 150, 150), sample="-24"),
    "pattern_recognition": Facts(
        released=(50, 50, 50),
        drawings=(450, 450, 300, 300, 300),
        commonest=0.07,  # a grid of six rows has at most 16 corners
        sample="0,1",
        hostile=("9" * 390 + ",1", "٣,٣", "-1,-1"),
    ),
    "permutations_and_combinations": Facts(
        drawings=(450, 40, 40, 40, 40),
        commonest=0.03,  # five items have 120 orders
        lucky=15,  # its own test compares those of few items with trying every order
        sample="C,A,B",
        hostile=(",,,,,,,,", "A,B,C,D,E,F,G,H,"),
    ),
    "pooling": Facts(sample="5,-6,7,8", hostile=("[" + "9" * 1_900 + "]",)),
    "reversi": Facts(
        released=(100, 100, 92),
        drawings=(450, 450, 60, 60, 60),
        repeats=0.02,  # few games of up to seven moves on four by four cells
        sample="0,*,*,1",
        hostile=("*," * 190,),
    ),
    "standard_sudoku": Facts(
        released=(60, 60, 60),
        drawings=(400, 20, 20, 20, 20),
        sample="4 1 7 2 9 5 8 6 3",
        hostile=("1 " * 190, "[1e999]"),
    ),
    "statistical_counting": Facts(
        commonest=0.09,  # a short string has few runs that earn something
        sample="1234",
    ),
    "string_deletion_and_modification": Facts(
        released=(50, 50, 50),
        drawings=(450, 120, 120, 20, 20),
        commonest=0.02,  # few letters of three are left
        sample="xyzzy",
        hostile=("a" * 400,),
    ),
    "string_insertion": Facts(sample="XYZZY", hostile=("A" * 400,)),
    "string_splitting": Facts(
        repeats=0.02,  # two to four machines of three kinds
        commonest=0.02,  # which leave few things
        sample="4, 0, 1, 12, 0, 3",
        hostile=("0, 0, 0, 0, 0, 0", "9" * 60 + ",0" * 5),
    ),
    "string_synthesis": Facts(sample="0 2 0 0 1 0 0 0 3"),
    "synthesis_decomposition": Facts(
        repeats=0.02,  # two crops and three exchanges
        commonest=0.03,  # which leave few units
        sample="[0, 3, 1]",
    ),
    "gridworld_moves": Facts(
        released=(0, 0, 0),  # a game of this project
        drawings=(450, 450, 60, 20, 20),
        lucky=2,  # its own test replays each
        sample="[left, left, up]",
        hostile=("up," * 5_000,),
    ),
    "boxnet_actions": Facts(
        released=(25, 0, 0),  # squares only, whose plans our search finds
        drawings=(450, 450, 100, 60, 60),
        repeats=0.01,  # a field of four squares with three boxes
        sample='[{"Agent[0.5, 0.5]": "move(box_red, square[0.5, 1.5])", "Agent[1.5, 0.5]": '
        '"move(box_blue, target_blue)"}, {"Agent[0.5, 1.5]": "move(box_red, target_red)"}]',
        hostile=('[{"Agent[0.5, 0.5]": "move(' + "box_" * 4_000 + '"}]',),
    ),
}

HOSTILE = (
    *("1" * 10**7, "[" * 10**7, " " * 10**7, "\n" * 10**6 + "1"),
    *("9" * count for count in (390, 399, 400, 5_000, 19_000)),
    *("[" * 300, "[" * 19_000, "[" * 200 + "]" * 200, "(" * 200 + ")" * 200, '{"a":' * 3_000),
    *("9**9**9**9", '__import__("os").system("true")', "1e999999999", "[[1e999]]", "[9e999]"),
    *("nan", "inf", "NaN", "[NaN]", "[{}]", "[]", "()", "[,]", "[", ",", "'", '"', "''", "'''"),
    *("\0", "\ud800", "²", "½", "٣", "--1", "0/0", "2+1", "[" + "9" * 19_000 + "]"),
)
"""Texts that no task may accept, raise at or spend time on."""

CONSTANTS = ("", "0", "None", "I do not know")
ODD = ("'", '"', "[", ")", ",", " ", "\t", "\n", "\0", "\x1f", "\u00a0", "²", "٣", "-", "9", "a")

TASKS = {
    name: task
    for suite in ("symbench", "extra")
    for name in registry.names(suite=suite)
    if isinstance(task := registry.get(name), ProceduralTask)
}
RELEASED = {task.name: task for task in released_items.tasks()}

every_task = pytest.mark.parametrize("name", TASKS, scope="module")
every_level = pytest.mark.parametrize("level", range(1, 6))


def some(drawn: Drawn, name: str) -> list[Example]:
    """So many of each level, one level after the other."""
    return [one for level in range(1, 6) for one in drawn(TASKS[name], level, EACH)]


def gold_of(name: str, example: Example) -> str:
    gold = TASKS[name].gold(example)
    assert gold is not None
    return gold


def correct(name: str, example: Example, text: str) -> bool:
    """The verdict, whose reason is one short line."""
    verdict = TASKS[name].score(example, text)
    assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
    return verdict.correct


def test_facts_are_of_the_procedural_tasks() -> None:
    assert list(FACTS) == list(TASKS) and len(TASKS) == 30 + 2
    assert set(TASKS) - set(RELEASED) == {"gridworld_moves"}
    assert all(task.difficulties == (1, 2, 3, 4, 5) for task in TASKS.values())
    exact = [facts for name, facts in FACTS.items() if not TASKS[name].many_answers]
    assert not any(facts.lucky for facts in exact), "one right answer leaves no room for luck"


@every_task
def test_golds_score(name: str, drawn: Drawn) -> None:
    for example in some(drawn, name):
        gold = gold_of(name, example)
        assert correct(name, example, gold)
        assert correct(name, example, f" {gold}\n")


@every_task
def test_cheap_answers_are_wrong(name: str, drawn: Drawn) -> None:
    for example in some(drawn, name):
        gold = gold_of(name, example)
        hedged = [f"{gold}\n{more}" for more in (gold, f"{gold}1", gold.split("\n")[0], *"017x")]
        hedged += [f"{gold} or {more}" for more in (gold, "1")]
        framed = [f"{gold};", f"<{gold}>", f"{gold} = 5", f"the answer is {gold}"]
        for text in (*CONSTANTS, example.question, FACTS[name].sample, *hedged, *framed):
            assert text == gold or not correct(name, example, text), text


@every_task
def test_golds_of_other_items_are_wrong_unless_they_fit(name: str, drawn: Drawn) -> None:
    items = some(drawn, name)
    golds = [gold_of(name, example) for example in items]
    lucky = 0
    for spot, example in enumerate(items):
        # Neighbours are of one level and look most alike.
        for other in (golds[spot - 1], golds[(spot + 1) % len(golds)], golds[spot - EACH]):
            lucky += other != golds[spot] and correct(name, example, other)
    assert lucky <= FACTS[name].lucky


@every_task
def test_hostile_answers_are_wrong_at_once(name: str, drawn: Drawn) -> None:
    items = drawn(TASKS[name], 1, EACH)[:1] + drawn(TASKS[name], 5, EACH)[:1]
    for example in items:
        gold = gold_of(name, example)
        own = [(gold + end) * (10**6 // len(gold)) for end in ("", "\n", ",", " ")]
        own += [(gold + end) * (19_000 // (len(gold) + 1)) for end in ("\n", ",")]
        parts = gold.count(",") + 1
        own += [",".join([part] * parts) for part in ("9" * 30, "1e999999999", "nan", "", "٣")]
        texts = [*HOSTILE, *FACTS[name].hostile, *own]
        with at_most(cpu_seconds=CPU_SECONDS):
            for text in texts:
                assert not correct(name, example, text), text[:80]


@every_task
def test_no_text_makes_the_scorer_raise(name: str, drawn: Drawn) -> None:
    """Golds with odd characters in them, which pass the first look at their form most easily."""
    rng = random.Random(name)
    for example in drawn(TASKS[name], 2, EACH)[:3]:
        for _ in range(100):
            text = list(gold_of(name, example))
            for _ in range(rng.randint(1, 3)):
                spot = rng.randrange(len(text) + 1)
                text[spot : spot + rng.randint(0, 1)] = rng.choice(ODD)
            correct(name, example, "".join(text))


@every_level
@every_task
def test_questions_differ_and_no_answer_is_common(name: str, level: int, drawn: Drawn) -> None:
    facts, task = FACTS[name], TASKS[name]
    items = drawn(task, level, facts.drawings[level - 1])
    count = len(items)
    different = len({base.normalize_question(example.question) for example in items})
    assert different >= (1 - facts.repeats) * count
    assert level > 1 or different >= 400
    ranked = collections.Counter(gold_of(name, example) for example in items).most_common()
    assert ranked[0][1] <= max(1, facts.commonest * count)
    if task.many_answers:
        for constant, _ in ranked[: facts.constants]:
            fitting = sum(correct(name, example, constant) for example in items)
            assert fitting <= max(1, FEW * count)


@every_level
@every_task
def test_a_question_hangs_on_seed_and_index_only(name: str, level: int, drawn: Drawn) -> None:
    task, first = TASKS[name], drawn(TASKS[name], level, EACH)
    assert task.generate(7, 0, level) == first[7]
    others = [task.generate(7, 1, level), *first[:7]]
    assert first[7].question not in [other.question for other in others]
    assert first[7].id not in [other.id for other in others]


def test_another_process_asks_the_same_questions(drawn: Drawn) -> None:
    """With another hash seed: no question depends on the order of a set."""
    elsewhere = check._digests_elsewhere(list(TASKS), 0, 15)
    here = {
        name: [drawn(task, level, EACH)[index] for index in range(3) for level in range(1, 6)]
        for name, task in TASKS.items()
    }
    assert elsewhere == {name: check.digest(items) for name, items in here.items()}


def test_released_golds_score_but_for_the_named_defects(shared_data: pathlib.Path) -> None:
    judged = released_items.score_released(shared_data / "symbench")
    found = {one.task: (one.items, one.golds, one.num_scored) for one in judged}
    assert found == {name: facts.released for name, facts in FACTS.items() if facts.released[0]}
    for one in judged:
        assert one.is_passed and one.failures == ()
        named = released_items.defects(registry.get(one.task))
        assert one.explained == (named if one.golds else {})
        assert one.num_solved == one.searched <= one.items - one.golds


def test_all_items_of_the_newer_release_are_solved(shared_data: pathlib.Path) -> None:
    judged = released_items.score_released(shared_data / "symbench_v2")
    assert {one.task: one.items for one in judged} == {
        name: facts.newer for name, facts in FACTS.items() if facts.newer
    }
    for one in judged:
        assert (one.golds, one.searched, one.num_solved) == (0, one.items, one.items), one.task
        assert one.is_passed


def test_an_item_that_our_search_cannot_solve_fails_its_task(tmp_path: pathlib.Path) -> None:
    """Two stacks leave no way to turn two blocks round."""
    state = "Initial State:\nstack1: A B\nstack2: \n\nGoal State:\nstack1: B A\nstack2: \n"
    (tmp_path / "blocksworld.jsonl").write_text(json.dumps({"state": state}))
    (report,) = released_items.score_released(tmp_path)
    assert not report.is_passed and (report.searched, report.num_solved) == (1, 0)
    assert report.failures == ("item 0: our search found no answer",)


def test_a_gold_that_no_rule_explains_fails_its_task(
    tmp_path: pathlib.Path, shared_data: pathlib.Path
) -> None:
    """A defect that the sample's tasks have is no excuse for another wrong gold."""
    for name in ("mahjong_pattern", "reversi", "logic_puzzle", "new_operator"):
        lines = (shared_data / "symbench" / f"{name}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        items = [
            RELEASED[name].parse_released(n, row["question"], row["solution"])
            for n, row in enumerate(rows)
        ]
        right = next(n for n, i in enumerate(items) if i.gold and correct(name, i.example, i.gold))
        row = rows[right]
        # Another gold of the same form, which neither our rules nor the release's would give.
        row["solution"]["solution"] = _other_gold(name, row["solution"]["solution"])
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*lines, json.dumps(row)]))
        (report,) = released_items.score_released(tmp_path)
        assert not report.is_passed, name
        assert len(report.failures) == 1 and report.failures[0].startswith(f"item {len(lines)}:")
        (tmp_path / f"{name}.jsonl").unlink()


def _other_gold(name: str, gold: Any) -> Any:
    match name:
        case "mahjong_pattern":
            return (gold + 1) % 3
        case "reversi":
            return ("1" if gold[0] == "0" else "0") + gold[1:]
        case "logic_puzzle":
            return [[99, 99]]
        case _:
            return gold + 1000.5


@pytest.mark.parametrize("name", [name for name, facts in FACTS.items() if facts.released[0]])
def test_released_items_without_question_or_answer_are_refused(
    name: str, shared_data: pathlib.Path
) -> None:
    task = RELEASED[name]
    question, solution = next(released_items.read_items(shared_data / "symbench", task))
    task.parse_released(7, question, solution)
    keys = solution if isinstance(solution, dict) else ("solution",)
    # Without the text the release stores nothing to read a question from.
    broken = [(question, None), (question, {}), (question, dict.fromkeys(keys))]
    broken += [(text, solution) for text in ("", "Hello") if question]
    if not isinstance(solution, list):  # where a bare list is an answer, an empty one is, too
        broken.append((question, []))
    for case in broken:
        with pytest.raises(UserError, match=f"released item 7 of {name}"):
            task.parse_released(7, *case)
