"""BIG-Bench-Hard: every published gold scores and nothing else does; labels are derived anew."""

import ast
import collections
import json
import operator
import pathlib
import re

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.bbh import bbh_files, bbh_flaws, bbh_tasks
from r1ci_jax.tasks.bbh.bbh_rules import RULES
from r1ci_jax.tasks.bbh.bbh_tasks import BigBenchHard
from r1ci_jax.tasks.published_task import Contents
from tests.load import at_most

DROPPED = {
    "bbh_causal_judgement": {"one question with contradicting answers": 4},
    "bbh_date_understanding": {
        "36 hours before 2015 it is 12/30/2014, and the answers take another day": 7,
        "Thanksgiving of 2001 is 11/22/2001, and the answers take 11/22/2002": 6,
        "5 years after 01/02/1958 it is 01/02/1963, and the answers take 01/02/1961": 6,
        "a week after 01/31/2012 it is 02/07/2012, and its answer is 02/06/2012": 1,
    },
    "bbh_geometric_shapes": {
        "its shape has four right angles, and its answer is not rectangle": 25
    },
    "bbh_movie_recommendation": {"an option is split at its comma": 19},
    "bbh_ruin_names": {"two of its options are the same": 2},
    "bbh_snarks": {"two of its options are the same": 1, "it has only one option": 1},
    "bbh_sports_understanding": {"repeats item": 2},
}


def everything(task: BigBenchHard, seed: int = 0) -> list[Example]:
    return [task.generate(index, seed, 1) for index in range(task.count())]


def gold(task: BigBenchHard, example: Example) -> str:
    text = task.gold(example)
    assert text is not None
    return text


def correct(task: BigBenchHard, example: Example, text: str) -> bool:
    verdict = task.score(example, text)
    assert verdict.reason and "\n" not in verdict.reason
    return verdict.correct


def made(name: str, *rows: tuple[str, str]) -> BigBenchHard:
    """A task with the items given, through the parser of published files."""
    content = json.dumps({"examples": [{"input": q, "target": a} for q, a in rows]}).encode()

    class Made(BigBenchHard):
        def read(self, data: pathlib.Path) -> Contents:
            return self.parse(content)

    return Made(name)


def test_sizes_and_dropped_items(shared_data: pathlib.Path) -> None:
    assert len(bbh_tasks.NAMES) == len(set(bbh_tasks.NAMES)) == 27
    total = 0
    for name in bbh_tasks.NAMES:
        task = bbh_tasks.make(name, shared_data)
        found = collections.Counter(
            re.sub(r"(: items .*| \d+)$", "", drop.reason) for drop in task.dropped_items()
        )
        assert found == DROPPED.get(name, {}), name
        assert task.count() + found.total() == bbh_files.PUBLISHED[task.file].count
        total += task.count()
    dropped = bbh_tasks.dropped_items(shared_data)
    assert (total, len(dropped)) == (6437, 74)
    assert [drop.index for drop in dropped if drop.task == "bbh_causal_judgement"] == [
        32,
        36,
        104,
        119,
    ]


def _shape(*points: tuple[float, float]) -> str:
    first, *rest = [f"{x},{y}" for x, y in (*points, points[0])]
    return f'This SVG path element <path d="M {first} L {" L ".join(rest)}"/> draws a'


_THANKS = "In the US, Thanksgiving is on a Thursday. Today is the US Thanksgiving of {}. Today?"
_MARRIED = "Jane and John married on Jan 2, 1958. {} anniversary today. What is the date?"
_LAST = "Jane is celebrating the last day of Jan 2012. What is the date {} in MM/DD/YYYY?"


@pytest.mark.parametrize(
    ("file", "question", "answer", "is_flawed"),
    [
        ("geometric_shapes", _shape((0, 0), (4, 0), (4, 2), (0, 2)), "trapezoid", True),
        ("geometric_shapes", _shape((0, 0), (4, 0), (4, 2), (0, 2)), "rectangle", False),
        ("geometric_shapes", _shape((1, 0), (3, 2), (2, 3), (0, 1)), "kite", True),
        ("geometric_shapes", _shape((0, 0), (4, 0), (3, 2), (1, 2)), "trapezoid", False),
        ("geometric_shapes", _shape((0, 0), (4, 0), (5, 2), (1, 2)), "trapezoid", False),
        ("geometric_shapes", _shape((0, 0), (4, 0), (4, 2)), "triangle", False),
        ("date_understanding", "2015 is coming in 36 hours. What is the date today?", "x", True),
        ("date_understanding", "2015 is coming in 24 hours. What is the date today?", "x", False),
        ("date_understanding", _THANKS.format(2001), "11/22/2002", True),
        ("date_understanding", _THANKS.format(2001), "11/22/2001", False),
        ("date_understanding", _THANKS.format(2002), "11/28/2002", False),
        ("date_understanding", _MARRIED.format("It is their 5-year"), "01/02/1961", True),
        ("date_understanding", _MARRIED.format("It is their 5-year"), "01/02/1963", False),
        ("date_understanding", _MARRIED.format("Today is their golden"), "01/02/2008", False),
        ("date_understanding", _LAST.format("one week from today"), "02/06/2012", True),
        ("date_understanding", _LAST.format("one week from today"), "02/07/2012", False),
        ("date_understanding", _LAST.format("one week ago from today"), "01/24/2012", False),
    ],
)
def test_wrong_published_answers_are_found_by_their_numbers(
    file: str, question: str, answer: str, is_flawed: bool
) -> None:
    assert (bbh_flaws.flaw(file, question, answer) is not None) is is_flawed


@pytest.mark.parametrize("name", bbh_tasks.NAMES)
def test_golds_score_and_nothing_else(name: str, shared_data: pathlib.Path) -> None:
    task = bbh_tasks.make(name, shared_data)
    items = everything(task)
    golds = sorted({gold(task, example) for example in items})
    for example in items:
        right = gold(task, example)
        assert correct(task, example, right) and correct(task, example, f"  {right}\n")
        others = [text for text in golds[:30] if text != right]
        constants = ("", " ", "0", "None", "I do not know", "A or B", "Yes or No", "True False")
        hedged = (f"{right}\n{right}1", f"{right} or 1", f"{right}\n7", f"{right};", f"is {right}")
        listed = (", ".join(golds[:30]), "\n".join(golds[:30])) if others else ()
        for text in (*others, *constants, *hedged, *listed, example.question):
            assert text == right or not correct(task, example, text), (example, text)


@pytest.mark.parametrize("name", bbh_tasks.NAMES)
def test_options(name: str, shared_data: pathlib.Path) -> None:
    task = bbh_tasks.make(name, shared_data)
    if bbh_files.PUBLISHED[task.file].rule != "option":
        return
    for example in everything(task):
        options = json.loads(example.metadata)["options"]
        right = gold(task, example)
        for place, option in enumerate(options):
            letter = chr(ord("A") + place)
            assert example.question.count(f"\n({letter}) {option}") == 1
            marked = (f"({letter}).", f"**({letter})**", f"{letter}.")
            for text in (f"({letter})", letter, option, f"  {option.upper()} ", *marked):
                assert correct(task, example, text) == (f"({letter})" == right), (example, text)
            for text in (
                f"[{letter}]",
                f"({letter}",
                f"({letter}) {option}",
                f"{option}!",
            ):
                assert not correct(task, example, text)
        assert not correct(task, example, " ".join(options))
        assert not correct(task, example, "(Z)")
        assert not correct(task, example, chr(ord("A") + len(options)))


_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_STEPS = {"left": -1, "right": 1, "forward": 1j, "backward": -1j}
_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def _walk(node: ast.AST) -> int:
    match node:
        case ast.Constant(value=value):
            return int(str(value)) if not isinstance(value, bool) else int(value)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return 1 - _walk(operand)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_walk(operand)
        case ast.BoolOp(op=op, values=values):
            return (max if isinstance(op, ast.Or) else min)(map(_walk, values))
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_walk(left), _walk(right))
    raise AssertionError(ast.dump(node))


def _navigate(text: str) -> str:
    place, heading = 0j, 1j
    facing = "Always face forward" in text
    for sentence in text.split("?")[1].split("Options")[0].split("."):
        if (turn := re.search(r"Turn (left|right|around)", sentence)) is not None:
            heading *= {"left": 1j, "right": -1j, "around": -1}[turn[1]]
        if (step := re.search(r"Take (\d+) steps?(?: (\w+))?", sentence)) is not None:
            move = _STEPS[step[2] or "forward"]
            place += int(step[1]) * (move if facing else move * heading / 1j)
    return "No" if place else "Yes"


def _truth(text: str) -> str:
    known: dict[str, bool] = {}
    for sentence in text.removeprefix("Question: ").split(". "):
        if (said := re.fullmatch(r"(\w+) says (\w+) (lies|tells the truth)", sentence)) is not None:
            known[said[1]] = known[said[2]] == (said[3] != "lies")
        elif (fact := re.fullmatch(r"(\w+) (lies|tells the truth)", sentence)) is not None:
            known[fact[1]] = fact[2] != "lies"
    asked = re.findall(r"Does (\w+) tell the truth\?", text)
    return "Yes" if known[asked[-1]] else "No"


def _shuffled(text: str, options: list[str]) -> str:
    """Names and things are told by the letters: holders are named again in the swaps."""
    people = re.findall(
        r"(?:^|, |and )([A-Z][a-z]+)(?=,| and| are)", text.split(" are ")[0] + " are"
    )
    start = text.split(": ", 1)[1].split(".\n")[0] if ".\n" in text else text
    held = {}
    for person in people:
        rest = start.split(f"{person} ", 1)[1]
        held[person] = max(
            (option for option in options if option.rstrip(".") in rest),
            key=lambda option: -rest.index(option.rstrip(".")),
        )
    for one, other in re.findall(r"([A-Z][a-z]+) and ([A-Z][a-z]+) (?:swap|switch|trade)", text):
        held[one], held[other] = held[other], held[one]
    last = re.findall(r"At the end of [^,]*, ([A-Z][a-z]+) ", text)[-1]
    return f"({chr(ord('A') + options.index(held[last]))})"


def derive(file: str, question: str, options: list[str]) -> str | None:
    """The label from the question alone, by other means than reading the target."""
    text = question.rpartition("\n\nAnswer with")[0]
    match file:
        case "boolean_expressions":
            return str(bool(_walk(ast.parse(text.removesuffix(" is"), mode="eval").body)))
        case "multistep_arithmetic_two":
            return str(_walk(ast.parse(text.rstrip(" ="), mode="eval").body))
        case "dyck_languages":
            sequence = text.partition("Input: ")[2].replace(" ", "")
            while (shorter := re.sub(r"\(\)|\[\]|\{\}|<>", "", sequence)) != sequence:
                sequence = shorter
            return " ".join(_PAIRS[char] for char in reversed(sequence))
        case "word_sorting":
            return " ".join(sorted(text.partition("List: ")[2].split()))
        case "navigate":
            return _navigate(text)
        case "web_of_lies":
            return _truth(text)
    return _shuffled(text, options) if file.startswith("tracking_shuffled") else None


@pytest.mark.parametrize(
    "file",
    [
        "boolean_expressions",
        "multistep_arithmetic_two",
        "dyck_languages",
        "word_sorting",
        "navigate",
        "web_of_lies",
        "tracking_shuffled_objects_three_objects",
        "tracking_shuffled_objects_five_objects",
        "tracking_shuffled_objects_seven_objects",
    ],
)
def test_labels_agree_with_an_independent_derivation(file: str, shared_data: pathlib.Path) -> None:
    task = bbh_tasks.make(f"bbh_{file}", shared_data)
    for example in everything(task):
        options = json.loads(example.metadata)["options"]
        assert derive(file, example.question, options) == gold(task, example), example


@pytest.mark.parametrize(
    ("name", "row", "right", "wrong"),
    [
        ("bbh_navigate", ("Back?", "Yes"), ["Yes", "yes", " YES "], ["Y", "No", "Yes!", "- Yes"]),
        ("bbh_web_of_lies", ("Q", "No"), ["No", "no"], ["Not", "false", "no no"]),
        ("bbh_boolean_expressions", ("Q is", "True"), ["True", "true"], ["1", "yes", "not False"]),
        ("bbh_formal_fallacies", ("Q", "valid"), ["valid", "Valid"], ["invalid", "is valid"]),
        ("bbh_formal_fallacies", ("Q", "invalid"), ["invalid"], ["valid", "not valid"]),
        (
            "bbh_object_counting",
            ("Q", "14"),
            ["14", "+14", "14.0"],
            ["fourteen", "14 fruits", "1 4"],
        ),
        ("bbh_multistep_arithmetic_two", ("Q", "-8"), ["-8"], ["8", "- 8", "4-12", "--8"]),
        (
            "bbh_word_sorting",
            ("Q", "ant bee it&t"),
            ["ant bee it&t", "ant, bee,it&t", "ant  bee\tit&t"],
            ["Ant bee it&t", "bee ant it&t", "ant bee", "ant,, bee it&t", "ant bee it&t it&t"],
        ),
        (
            "bbh_dyck_languages",
            ("Q", ") ] >"),
            [") ] >", ")]>", ") ]>"],
            ["> ] )", "( [ <", ")]", ")]>)", ") , ] >", "()]>"],
        ),
    ],
)
def test_forms(name: str, row: tuple[str, str], right: list[str], wrong: list[str]) -> None:
    task = made(name, row)
    (example,) = everything(task)
    assert all(correct(task, example, text) for text in right)
    assert not any(correct(task, example, text) for text in wrong)


LISTED = "Which?\nOptions:\n(A) red\n(B) deep blue\n(C) Red wine"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((LISTED, "(D)"), "target"),
        ((LISTED, "red"), "target"),
        ((LISTED, "B"), "target"),
        ((LISTED + "\n(D) RED", "(B)"), "the same"),
        ((LISTED + "\n(E) green", "(B)"), "not lettered"),
        ((LISTED + "\nfrom France", "(B)"), "not lettered"),
        (("Which?", "(B)"), "not lettered"),
        (("Which?\nOptions:\n(A) red", "(A)"), "only one option"),
        ((LISTED, " "), "no text"),
        (("", "(A)"), "no text"),
    ],
)
def test_malformed_items_are_dropped(row: tuple[str, str], reason: str) -> None:
    task = made("bbh_date_understanding", (LISTED, "(B)"), row)
    assert task.count() == 1
    (drop,) = task.dropped_items()
    assert (drop.task, drop.index) == (task.name, 1) and reason in drop.reason


def test_repeated_questions() -> None:
    task = made("bbh_navigate", ("a", "Yes"), ("b", "No"), ("A ", "Yes"), ("B", "Yes"), ("c", "No"))
    assert sorted(json.loads(e.metadata)["number"] for e in everything(task)) == [0, 4]
    assert [(drop.index, drop.reason) for drop in task.dropped_items()] == [
        (1, "one question with contradicting answers: items 1, 3"),
        (2, "repeats item 0"),
        (3, "one question with contradicting answers: items 1, 3"),
    ]


def test_a_seed_draws_an_order(shared_data: pathlib.Path) -> None:
    task = bbh_tasks.make("bbh_penguins_in_a_table", shared_data)
    first, again, other = everything(task), everything(task), everything(task, seed=1)
    assert first == again
    assert (
        len({base.normalize_question(example.question) for example in first}) == task.count() == 146
    )
    assert {e.question for e in first} == {e.question for e in other}
    assert sum(a.question == b.question for a, b in zip(first, other, strict=True)) < 10
    assert first[3].id == "bbh_penguins_in_a_table/d1/s0/3"
    # A drawn order must never change: pinned, so that another Python shows.
    assert [json.loads(e.metadata)["number"] for e in first[:4]] == [80, 105, 32, 60]
    for index in (146, -1):
        with pytest.raises(IndexError, match="146 questions"):
            task.generate(index, 0, 1)


def test_questions_state_the_form_but_no_answer(shared_data: pathlib.Path) -> None:
    for name in bbh_tasks.NAMES:
        task = bbh_tasks.make(name, shared_data)
        sentence = RULES[bbh_files.PUBLISHED[task.file].rule].sentence
        assert all(e.question.endswith(f"\n\n{sentence}") for e in everything(task))
        assert (task.suite, task.difficulties, task.name) == ("bbh", (1,), name)
        assert task.kind in ("execution", "reasoning") and task.answer_format


def test_hostile_answers_are_wrong_at_once() -> None:
    rows = [("bbh_navigate", "Yes"), ("bbh_word_sorting", "a b"), ("bbh_dyck_languages", ")")]
    hostile = ("Yes" * 10**6, "(" * 10**7, ")" * 500, "a " * 10**6, "9**9**9**9", "\x00")
    for name, target in [*rows, ("bbh_object_counting", "7")]:
        task = made(name, ("Q", target))
        (example,) = everything(task)
        with at_most(cpu_seconds=20.0):
            assert not any(correct(task, example, text) for text in hostile)


def test_files_are_checked(tmp_path: pathlib.Path, shared_data: pathlib.Path) -> None:
    task = bbh_tasks.make("bbh_snarks", tmp_path)
    with pytest.raises(UserError, match="is missing"):
        task.generate(0, 0, 1)
    remote = bbh_files.remote("snarks")
    (tmp_path / "bbh").mkdir()
    published = (shared_data / remote.path).read_bytes()
    (tmp_path / remote.path).write_bytes(published.replace(b"sarcastic", b"ironical", 1))
    with pytest.raises(UserError, match="not the published file"):
        task.count()
    (tmp_path / remote.path).write_bytes(published)
    assert task.count() == 176
    with pytest.raises(UserError, match="no list of examples"):
        task.parse(b"[1")
    assert len(list(bbh_tasks.remotes())) == 27
    assert remote.url.startswith("https://raw.githubusercontent.com/suzgunmirac/BIG-Bench-Hard/")
