"""GSM-Hard and MATH: files, golds, forms of answers; the comparison itself is in test_jailed."""

import json
import pathlib
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks import published_files
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.jail_scoring import ScoringJail
from r1ci_jax.tasks.math import equality, extraction, math_tasks
from r1ci_jax.tasks.math.math_tasks import HubFile, HubTask
from tests.load import at_most

SAMPLE = {"gsm_hard": 330, "math_geometry": 218, "math_counting_and_probability": 193}
"""Items of the released sample; every one is usable."""


def everything(task: HubTask) -> list[Example]:
    return [task.generate(index, 0, 1) for index in range(task.count())]


def filled(folder: pathlib.Path, name: str, *rows: dict[str, Any]) -> HubTask:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    published_files.write(f"symbench/{name}.jsonl", folder, lines.encode())
    return math_tasks.make(name, folder)


def problem(text: str, answer: str) -> dict[str, str]:
    return {"problem": text, "level": "Level 2", "solution": f"So it is $\\boxed{{{answer}}}$."}


# ---- the released sample -------------------------------------------------------------------------


@pytest.mark.parametrize("name", math_tasks.NAMES)
def test_released_golds_score_and_nothing_else(name: str, shared_data: pathlib.Path) -> None:
    task = math_tasks.make(name, shared_data)
    assert (task.suite, task.name, task.difficulties) == ("symbench", name, (1,))
    assert (task.count(), task.dropped_items()) == (SAMPLE[name], ())
    items = everything(task)
    equal_elsewhere = 0
    for example, other in zip(items, items[1:] + items[:1], strict=True):
        gold, foreign = task.gold(example), task.gold(other)
        assert gold is not None and foreign is not None
        for text in (gold, f" {gold}\n"):
            assert task.score(example, text).correct, (example, text)
        wrong = ("", "0", "None", f"{gold}\n{gold}1", f"{gold} or 1", f"{gold}\n7", f"{gold} cm")
        for text in (*wrong, example.question, f"{gold}, {gold}", f"the answer is {gold}"):
            verdict = task.score(example, text)
            assert verdict.correct == (text == gold), (example, text)
            assert verdict.reason and "\n" not in verdict.reason and len(verdict.reason) < 120
        equal_elsewhere += foreign != gold and task.score(example, foreign).correct
    assert equal_elsewhere == 0
    assert len({example.question for example in items}) == len(items)
    with pytest.raises(IndexError, match=f"{SAMPLE[name]} questions"):
        task.generate(SAMPLE[name], 0, 1)


def test_dropped_over_all(shared_data: pathlib.Path) -> None:
    assert math_tasks.dropped_items(shared_data) == []


# ---- GSM-Hard ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "right", "wrong"),
    [
        (
            -9867630.0,
            ["-9867630", "-9867630.0", " -9867630 ", "-9.86763e6", "-9867639", "-9,867,630"],
            ["9867630", "-98,67,630", "$-9867630", "-9867630 dollars", "-9867650", "-9867630 -1"],
        ),
        (14053029.666666666, ["14053029.666666666", "14053029.67", "14053030"], ["14053050"]),
        (3.509e-07, ["3.509e-07", "0.0000003509"], ["0", "3.5e-7", "1e-6"]),
        (0.0, ["0", "0.0", "-0"], ["1e-300", "0.0000001", "zero"]),
        (10.6666666667, ["10.6666666667", "10.666667"], ["10.66", "32/3", "11"]),
    ],
)
def test_numbers(target: float, right: list[str], wrong: list[str], tmp_path: pathlib.Path) -> None:
    task = filled(tmp_path, "gsm_hard", {"input": "How much?", "target": target})
    example = task.generate(0, 0, 1)
    assert "0.000001" in example.question
    assert [text for text in right if not task.score(example, text).correct] == []
    hostile = ("1e999999999", "1e9999", "9" * 10**6, "nan", "inf", "1_0", "٣", "--1", "1e5e5", ".")
    assert [text for text in (*wrong, *hostile) if task.score(example, text).correct] == []


# ---- MATH ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("18\\pi", "18\\pi"),
        ("AB=12+12\\sqrt{3}", "12+12\\sqrt{3}"),
        ("k=3", "3"),
        ("480 + 480\\sqrt{3}\\text{ feet}", "480 + 480\\sqrt{3}"),
        ("147\\text{ cm}^2", "147"),
        ("40^\\circ", "40"),
        ("61^{\\circ}", "61"),
        ("1,\\!000,\\!000", "1,000,000"),
        ("0.56 = 56\\%", "0.56"),
        ("56\\%", "56"),
        ("\\$4.50", "4.50"),
        ("\\text{Evelyn}", "Evelyn"),
        ("y=2x+3", "y=2x+3"),
        ("s^2 \\le 8r^2", "s^2 \\le 8r^2"),
        ("", None),
        ("\\text{ }", None),
        ("3\\text{ or }4", None),
    ],
)
def test_values_of_published_answers(content: str, value: str | None) -> None:
    assert extraction.read_value(content) == value


def test_the_last_box_counts() -> None:
    assert (
        extraction.extract_boxed("\\boxed{1} and \\boxed{\\frac{1}{\\sqrt{2}}}.")
        == "\\frac{1}{\\sqrt{2}}"
    )
    assert extraction.extract_boxed("\\boxed {2}") == "2"
    assert extraction.extract_boxed("\\boxed 2") is None
    assert extraction.extract_boxed("\\boxed{2") is None
    assert extraction.extract_boxed("2") is None


@pytest.mark.parametrize(
    ("expected", "right", "wrong"),
    [
        (
            "7",
            ["7", "$7$", "\\boxed{7}", "\\(7\\)", "7.0", "14/2"],
            ["x=7", "7 cm", "seven", "7, 8"],
        ),
        ("7", [], ["7 or 8", "\\pm 7", "7^\\circ", "7\\text{ cm}", "$7$ $7$", "[7]", "7!", "7;"]),
        ("12", ["12", "12.000", "+12"], ["1 2", "1, 2", "{12", "12\n13"]),
        (
            "\\frac12",
            ["1/2", "0.5", ".5", "\\dfrac{1}{2}", "2/4"],
            ["50\\%", "1:2", "0.50001", "1/0", "(1/2", "1/2)"],
        ),
        ("-\\frac{3}{4}", ["-3/4", "-0.75", "-\\frac34"], ["3/4", "\\frac{3}{4}"]),
        ("\\frac{1}{3}", ["\\frac13", "2/6"], ["0.333333", "0.3333333333333333"]),
        ("1,000,000", ["1000000", "1,000,000"], ["1,000", "1,0,0"]),
        (
            "10\\sqrt{3}",
            ["10*sqrt(3)", "\\sqrt{300}", "10 \\cdot 3^{1/2}"],
            ["17.3205", "10\\sqrt{2}"],
        ),
        ("10\\sqrt{3}", [], ["17.320508075688775", "17.320508075688772935", "10, 3"]),
        ("\\frac{\\pi}{12}", ["pi/12", "π/12", "\\pi/12", "(1/12)*pi"], ["0.2617993878", "\\pi"]),
        ("100+75\\pi", ["25(4+3\\pi)", "75*pi + 100"], ["175\\pi"]),
        ("(18,-18)", ["(18, -18)", "(18,-36/2)"], ["18,-18", "[18,-18]", "(-18,18)", "(18,-18,0)"]),
        ("12,9", ["12, 9", "12,18/2"], ["9,12", "(12,9)", "12", "12 9"]),
        ("\\{4,5,7\\}", ["\\{7, 4, 5\\}"], ["4,5,7", "\\{4,5\\}", "\\{4,4,7\\}", "(4,5,7)"]),
        ("[1,2)", ["[1, 2)"], ["(1,2)", "[1,2]", "1,2"]),
        ("s^2 \\le 8r^2", ["8r^2 \\ge s^2"], ["s^2 \\ge 8r^2", "s^2", "s^2 = 8r^2"]),
        (
            "3 \\sec \\frac{1}{2} \\theta",
            ["3*sec(theta/2)", "3\\sec(\\theta/2)"],
            ["3\\cos\\theta"],
        ),
        ("\\frac{bx}{h}(h-x)", ["b*x*(h-x)/h", "bx - bx^2/h"], ["bx", "a", "box"]),
        ("Evelyn", ["Evelyn", "evelyn"], ["Evleyn", "nylevE", "Eve", "E"]),
        ("(B)", ["(B)", "(b)"], ["B", "(C)", "(A) (B)"]),
    ],
)
def test_forms(expected: str, right: list[str], wrong: list[str]) -> None:
    found = {
        text: extraction.score_answer(expected, text, equality.are_equal)
        for text in (*right, *wrong)
    }
    assert [text for text in right if not found[text].correct] == []
    assert [text for text in wrong if found[text].correct] == []
    assert all(len(verdict.reason) < 120 for verdict in found.values())


@pytest.mark.parametrize(
    ("expected", "right", "wrong"),
    [
        (
            "\\sqrt{3}",
            ["3**0.5", "3 ** .5", "3**(1/2)", "3^0.5"],
            ["3**0.51", "3**1/2", "1.7320508"],
        ),
        ("\\frac{1}{2}", ["2**-1", "2**(-1)", "2^-1", "0.5"], ["2**1", "2**-2", "-2"]),
        ("8\\sqrt{2}", ["8*2**0.5", "8*sqrt(2)", "2**3.5"], ["8*2**5", "82**0.5", "2**3.4"]),
        ("\\sqrt{1/n}", ["1/\\sqrt{n}", "n**-0.5", "1/sqrt(n)"], ["\\sqrt{n}", "-1/\\sqrt{n}"]),
        ("|x|", ["|x|", "\\sqrt{x^2}"], ["x", "-x"]),
        ("1024", ["2**10", "2^10", "2^{10}"], ["2**1", "20"]),
    ],
)
def test_plain_notation(expected: str, right: list[str], wrong: list[str]) -> None:
    def is_right(text: str) -> bool:
        return extraction.score_answer(expected, text, equality.are_equal).correct

    assert [text for text in right if not is_right(text)] == []
    assert [text for text in wrong if is_right(text)] == []


def test_hostile_answers_never_reach_the_parser() -> None:
    def forbidden(expected: str, text: str) -> bool:
        raise AssertionError(text)

    hostile = (
        "__import__('os').system('touch /tmp/x')",
        "9**9**9**9",
        "9^{9^{9^{9}}}",
        "10^{99999}",
        "(" * 10**7,
        "{" * 300,
        "\\sqrt" * 10**6,
        "\\int_0^1 x",
        "\\sum_{i=1}^{9} i",
        "\\input{/etc/passwd}",
        "\\def\\x{\\x\\x}\\x",
        "10!!!!",
        "\x00",
        "७\\sqrt{3}",
    )
    with at_most(cpu_seconds=20.0):
        for expected in ("10\\sqrt{3}", "7", "(1,2)", "Evelyn"):
            for text in hostile:
                assert not extraction.score_answer(expected, text, forbidden).correct


def test_unusable_rows_are_dropped(tmp_path: pathlib.Path) -> None:
    task = filled(
        tmp_path,
        "math_geometry",
        problem("Area?", "\\pi"),
        {"problem": "Length?", "solution": "It is 3."},
        {"problem": "", "solution": "\\boxed{3}"},
        problem("Which?", "3\\text{ or }4"),
        problem("area? ", "\\pi"),
        {"solution": "\\boxed{3}"},
    )
    assert [(drop.index, drop.reason) for drop in task.dropped_items()] == [
        (1, "its solution marks no answer"),
        (2, "no text under problem or solution"),
        (3, "its marked answer is not one value"),
        (4, "repeats item 0"),
        (5, "no text under problem or solution"),
    ]
    example = task.generate(0, 3, 1)
    assert json.loads(example.metadata) == {"level": "Level 2", "number": 0}
    numbers = filled(
        tmp_path,
        "gsm_hard",
        {"input": "a", "target": "7"},
        {"input": "b", "target": True},
        {"target": 7},
        {"input": "c", "target": float("nan")},
        {"input": "d", "target": 7},
    )
    assert [drop.index for drop in numbers.dropped_items()] == [0, 1, 2, 3]


# ---- files ---------------------------------------------------------------------------------------


def test_missing_and_broken_files(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="is missing; run r1ci data fetch"):
        math_tasks.make("gsm_hard", tmp_path).count()
    published_files.write("symbench/gsm_hard.jsonl", tmp_path, b'{"input": "a", "target": 1}\n[1\n')
    with pytest.raises(UserError, match=r"gsm_hard.jsonl, line 2 is no JSON object"):
        math_tasks.make("gsm_hard", tmp_path).count()


@pytest.mark.parametrize("name", math_tasks.NAMES)
def test_fetching(name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_gsm = name == "gsm_hard"
    rows = [
        {"input": f"Sum {n}?", "code": "", "target": 1.5 * n}
        if is_gsm
        else problem(f"{n}?", str(n))
        for n in range(3)
    ]
    asked: list[HubFile] = []

    def download(source: HubFile) -> pathlib.Path:
        asked.append(source)
        place = tmp_path / pathlib.PurePath(source.file).name
        if is_gsm:
            place.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), place)
        return place

    data = tmp_path / "data"
    with pytest.raises(UserError, match="has 3 rows, not") as error:
        math_tasks.fetch(name, data, download=download)
    assert "\n" not in str(error.value) and not data.exists()
    few = HubFile(repository="a/b", revision="main", file=math_tasks.HUB[name].file, count=3)
    monkeypatch.setitem(math_tasks.HUB, name, few)
    assert math_tasks.fetch(name, data, download=download)
    assert not math_tasks.fetch(name, data, download=download)
    assert len(asked) == 2
    task = math_tasks.make(name, data)
    assert task.count() == 3
    assert all(task.score(e, task.gold(e) or "").correct for e in everything(task))


def test_the_hub_is_out_of_reach(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match=r"cannot download gsmhardv2\.jsonl") as error:
        math_tasks.fetch("gsm_hard", tmp_path)
    assert "\n" not in str(error.value)


# ---- the jail ------------------------------------------------------------------------------------


def test_an_answer_that_took_too_long_is_wrong() -> None:
    verdict = extraction.score_answer("\\pi", "2\\pi", lambda expected, given: None)
    assert not verdict.correct and "took too long" in verdict.reason


def test_the_jail_is_not_opened_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = ScoringJail()

    def equal(expected: str, given: str) -> bool | None:
        return equality.are_equal(expected, given, closed)

    assert extraction.score_answer("\\frac12", "0.5", equal).correct
    assert not extraction.score_answer("\\sqrt{2}", "two", equal).correct
    assert closed._sandbox is None
    monkeypatch.setenv("R1CI_JAIL_PREFIX", "/nowhere")
    with pytest.raises(UserError, match="the sandbox's Python is missing"):
        extraction.score_answer("\\sqrt{2}", "\\sqrt{3}", equal)
