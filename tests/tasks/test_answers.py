"""Answer texts by hand: each reader takes its form and nothing else."""

import re
from fractions import Fraction

import pytest

from r1ci_jax.tasks import answers

LONG = " " * answers.MAX_ANSWER_CHARS


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17),
        (" -17\n", -17),
        ("+17.00", 17),
        ("007", 7),
        ("17.5", None),
        ("17.", None),
        ("1,000", None),
        ("1e3", None),
        ("\u0663", None),
        ("1 7", None),
        ("[17]", None),
        ("", None),
        ("1" + LONG, None),
    ],
)
def test_integers_by_themselves(text: str, value: int | None) -> None:
    assert answers.integer(text) == value


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2,3", [1, 2, 3]),
        (" [1, 2 ,3]\n", [1, 2, 3]),
        ("(1 2 3)", [1, 2, 3]),
        ("[ 1 ]", [1]),
        ("[1, 2", None),
        ("[1, 2)", None),
        ("[[1, 2]]", None),
        ("1,,2", None),
        ("1,2,", None),
        ("'1','2'", None),
        ("[]", None),
        ("1,2" + LONG, None),
    ],
)
def test_lists_of_integers(text: str, values: list[int] | None) -> None:
    assert answers.integers(text) == values


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("'A'", "A"),
        (' "A B" ', "A B"),
        ("''A''", "'A'"),
        ("''", ""),
        ("'", "'"),
        ("'A\"", "'A\""),
        ("A", "A"),
        ("", ""),
    ],
)
def test_one_pair_of_quotes_is_taken_off(text: str, bare: str) -> None:
    assert answers.strip_quotes(text) == bare


def test_parts_of_a_list() -> None:
    for text in ("A,B , C", " [A, B,C]\n", "(A,B,C)"):
        assert answers.split_parts(text) == ["A", "B", "C"]
    assert answers.split_parts("[A,B)") == ["[A", "B)"]
    assert answers.split_parts("[[A]]") == ["[A]"]
    assert answers.split_parts("") == [""]
    assert answers.split_parts("A" + LONG) is None
    assert answers.split_parts("A" + LONG, limit=500) == ["A"]


def test_lists_of_one_form() -> None:
    form = re.compile(" *([a-z])([0-9]) *")

    def read(text: str, brackets: tuple[str, ...] = ("[]", "()")) -> list[str] | None:
        found = answers.matches(text, form, brackets=brackets)
        return None if found is None else [match[1] for match in found]

    assert read("[a1, b2]") == read("(a1,b2)") == read("a1 , b2\n") == ["a", "b"]
    assert read("(a1)", brackets=("[]",)) is None
    for text in ("a1,", "a1,b", "a1,\nb2", "[a1", "", "a1" + LONG):
        assert read(text) is None


def test_json_values() -> None:
    assert answers.json_value(' [1, {"a": "b"}]') == [1, {"a": "b"}]
    for text in ("", "[1", "[1]]", '{"a": 1, "a": 1}', "null", "[" * 300, "1" + LONG):
        assert answers.json_value(text) is None
    assert answers.json_value("[" * 100_000, limit=10**6) is None
    assert answers.json_value("9" * 5_000, limit=10**6) is None


@pytest.mark.parametrize(
    ("exact", "text", "right"),
    [
        ("23/9", "2.56", True),
        ("23/9", "2.556", True),
        ("23/9", "2.5555555555555554", True),
        ("23/9", "2.55", False),
        ("23/9", "2.6", False),
        ("23/9", "3", False),
        ("23/9", "2.5556556", False),
        ("-1/8", "-0.12", True),
        ("-1/8", "-0.13", True),
        ("-1/8", "-.125", False),
        ("-1/8", "0.125", False),
        ("0", "-0.0", True),
        ("0", "", False),
        ("1/2", "1/2", False),
        ("1/2", "½", False),
        ("3", "٣", False),
    ],
)
def test_rounding_by_hand(exact: str, text: str, right: bool) -> None:
    assert answers.rounds_to(Fraction(exact), text, places=2) is right


def test_words() -> None:
    for text in ("abc", " abc\n", "'abc'", '" abc "'):
        assert answers.score_word("abc", text).correct
    for text in ("ABC", "a bc", "abc.", "'abc", "''abc''", "abc\nabc", "abc" + LONG):
        assert not answers.score_word("abc", text).correct
    assert answers.score_word("a" * 60, "b" * 60).reason.count("...") == 2
