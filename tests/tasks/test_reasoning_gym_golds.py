"""Golds of Reasoning-Gym questions, found anew from the question's text alone.

The package's own are wrong, or its questions have two answers, in the data sets tested here.
"""

import datetime
import json
import re
from fractions import Fraction
from typing import Any

import pytest
from dateutil import parser
from reasoning_gym.data import read_data_file
from reasoning_gym.graphs.family_relationships import FamilyRelationshipsConfig

from r1ci_jax.tasks import expressions
from r1ci_jax.tasks.base import Example
from r1ci_jax.tasks.reasoning_gym import entry_corrections
from r1ci_jax.tasks.reasoning_gym.gym_tasks import make

QUESTIONS = 60
"""Of every level."""


def questions(name: str, count: int = QUESTIONS) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the question, its gold and the metadata of the package, for some of every level."""
    task = make(name)
    made = [task.generate(i, 11, level) for level in task.difficulties for i in range(count)]
    return [
        (each.question, json.loads(each.answer), json.loads(each.metadata)["entry"]["metadata"])
        for each in made
    ]


def right(example: Example, *answers: str) -> list[bool]:
    return [make(example.task).score(example, answer).correct for answer in answers]


def stored(task: str, question: str, answer: str, **metadata: object) -> Example:
    entry = {"question": question, "answer": answer, "metadata": metadata}
    return Example(
        id="x",
        task=f"rg_{task}",
        question=question,
        answer=json.dumps(answer),
        difficulty=1,
        metadata=json.dumps({"entry": entry}),
    )


# ---- durations ----------------------------------------------------------------------------------

_TIMES = re.compile(
    r"(?:between|from|started at|began at|departed at) (.+?)"
    r"(?: and (?:ended at |completed at |arrived at )?| to )(.+?)[.?] "
)


def test_durations_are_those_of_the_times_in_the_question() -> None:
    seen = set[str]()
    for question, gold, metadata in questions("rg_time_intervals"):
        found = _TIMES.search(question)
        assert found is not None, question
        day = datetime.datetime(2025, 1, 1)
        start, end = (
            parser.parse(re.sub(r" \([A-Z]\w+\)", "", text), default=day) for text in found.groups()
        )
        span = end - start
        form = metadata["expected_format"]
        seen.add(form + " zone" * ("%z" in metadata["format"]) + " (" * ("(" in metadata["format"]))
        assert span >= datetime.timedelta(0), question
        hours, rest = divmod(span.seconds, 3600)
        shown = {
            "D": str(span.days),
            "HH": f"{hours:02d}",
            "MM": f"{rest // 60:02d}",
            "SS": f"{rest % 60:02d}",
            "mmm": f"{span.microseconds // 1000:03d}",
        }
        expected = re.sub(r"\b(?:D|HH|MM|SS|mmm)\b", "{\\g<0>}", form).format(**shown)
        assert gold == expected, question
    assert {"HH:MM:SS.mmm", "D days", "D days, HH:MM zone ("} <= seen


def test_durations_are_compared_by_value_in_the_form_that_was_asked() -> None:
    long = stored("time_intervals", "?", "1 days, 02:03:00")
    assert all(right(long, "1 days, 02:03:00", "1 day, 2:03:00", "1 days, 02:03"))
    assert not any(
        right(long, "26:03:00", "1 days, 02:03:01", "1 days", "1 days, ", "1 days 02:03")
    )
    short = stored("time_intervals", "?", "00:00:03.040")
    assert all(right(short, "00:00:03.04", "0:00:03.040000"))
    assert not any(right(short, "00:00:03.4", "00:00:03.004", "0 days", "00:61:03.040"))


# ---- relatives ----------------------------------------------------------------------------------


def _relation(one: str, other: str, spouses: dict[str, str], parents: dict[str, set[str]]) -> str:
    """Return what `one` is to `other`, for a woman; men's words are below."""

    def parents_of(person: str) -> set[str]:
        return parents.get(person, set())

    grandparents = {old for parent in parents_of(other) for old in parents_of(parent)}
    if one in parents_of(other):
        return "mother"
    if other in parents_of(one):
        return "daughter"
    if spouses.get(one) == other:
        return "wife"
    if parents_of(one) and parents_of(one) == parents_of(other):
        return "sister"
    if one in grandparents:
        return "grandmother"
    if parents_of(one) & grandparents:
        return "aunt"
    if parents_of(other) & {old for parent in parents_of(one) for old in parents_of(parent)}:
        return "niece"
    assert other in parents_of(spouses[one])
    return "daughter-in-law"


_OF_MEN = {
    "mother": "father",
    "daughter": "son",
    "wife": "husband",
    "sister": "brother",
    "grandmother": "grandfather",
    "aunt": "uncle",
    "niece": "nephew",
    "daughter-in-law": "son-in-law",
}


def test_a_relative_is_called_what_the_first_person_is_to_the_second() -> None:
    men = set(FamilyRelationshipsConfig().male_names)
    words = set[str]()
    for question, gold, _ in questions("rg_family_relationships", 400):
        spouses, parents = dict[str, str](), dict[str, set[str]]()
        pattern = (
            r"(\w+) is married to (\w+)\.(?: They have (?:a child|children) called ([^.]+)\.)?"
        )
        for first, second, children in re.findall(pattern, question):
            spouses |= {first: second, second: first}
            for child in re.findall(r"[A-Z]\w+", children):
                parents[child] = {first, second}
        asked = re.search(r"(?:is|relation is) ([A-Z]\w+) (?:related )?to ([A-Z]\w+)\?", question)
        assert asked is not None, question
        relation = _relation(asked[1], asked[2], spouses, parents)
        assert gold == (_OF_MEN[relation] if asked[1] in men else relation), question
        words.add(relation)
    assert words == {*_OF_MEN}


def test_sisters_and_friends_are_counted_with_the_woman_herself() -> None:
    kinds = set[str]()
    for question, gold, metadata in questions("rg_aiw"):
        kinds.add(metadata["task_type"])
        found = re.search(r"(\d+) (?:sisters|female friends)", question)
        assert found is not None and int(gold) == int(found[1]) + 1
        if brother := re.search(r"do(?:es)? (\w+)'s brother have", question):
            assert question.startswith(f"{brother[1]} has")
    assert kinds == {"siblings", "friends"}


# ---- days ---------------------------------------------------------------------------------------

_DATE = r"(?:\w+day, )?(\w+ \d+)(?:, (\d{4}))?"


def test_days_are_counted_between_the_dates_that_the_question_shows() -> None:
    counted = 0
    for question, gold, metadata in questions("rg_calendar_arithmetic"):
        if metadata["task"] != "count_business_days":
            continue
        found = re.search(rf"(?:from|Between) {_DATE} (?:to|and) {_DATE} \(", question)
        assert found is not None, question
        year = int(found[4])
        assert found[2] in (None, found[4])
        start, end = (
            datetime.datetime.strptime(f"{text} {year}", "%B %d %Y")
            for text in (found[1], found[3])
        )
        days = (start + datetime.timedelta(days=n) for n in range((end - start).days + 1))
        assert int(gold) == sum(day.weekday() < 5 for day in days), question
        counted += 1
    assert counted > QUESTIONS // 2


def test_a_date_of_an_unnamed_year_is_not_of_a_leap_year() -> None:
    found = 0
    for question, gold, metadata in questions("rg_calendar_arithmetic"):
        if metadata["task"] != "weekday_of_date_from_first_date":
            continue
        names = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        first = next(n for n, name in enumerate(names) if name == metadata["first_day"])
        shown = re.findall(
            r"((?:[A-Z][a-z]+ber|January|February|March|April|May|June|July|August) \d+)", question
        )
        date = datetime.datetime.strptime(f"{shown[-1]} 2023", "%B %d %Y").timetuple().tm_yday - 1
        assert gold == names[(first + date) % 7], question
        found += 1
    assert found > QUESTIONS // 2


# ---- words --------------------------------------------------------------------------------------


def test_jumbled_letters_have_one_reading_in_the_text_they_are_from() -> None:
    text = read_data_file("in_the_year_2889.txt")
    words = {word.casefold() for word in re.findall(r"\b[^\W\d_]{4,12}\b", text)}
    readings: dict[str, set[str]] = {}
    for word in words:
        readings.setdefault("".join(sorted(word)), set()).add(word)
    assert len(readings["".join(sorted("form"))]) > 1  # and from
    for _, _, metadata in questions("rg_letter_jumble"):
        for word in metadata["original_words"]:
            assert len(readings["".join(sorted(word.casefold()))]) == 1, word


def test_lists_count_as_json_and_as_python_prints_them() -> None:
    groups = stored("group_anagrams", "?", '[["eat", "tea"], ["nat", "tan"]]')
    assert all(right(groups, "[['tan', 'nat'], ['eat', 'tea']]", '[["tea","eat"],["nat","tan"]]'))
    assert not any(right(groups, "[['eat', 'tea']]", "[['eat', 'nat'], ['tea', 'tan']]", "[]"))
    assert not any(right(groups, "[['eat', 'tea', 'tea'], ['nat', 'tan']]", "['eat', 'tea']"))
    parts = stored("palindrome_partitioning", "?", '[["a", "a"], ["aa"]]')
    assert right(parts, "[['aa'], ['a', 'a']]", "[['aa']]") == [True, False]


@pytest.mark.parametrize("task", ["isomorphic_strings", "course_schedule", "ransom_note"])
def test_truth_values_count_in_any_case(task: str) -> None:
    example = stored(task, "?", "True")
    assert right(example, "True", "true", "TRUE", "False", "tru") == [True] * 3 + [False] * 2


# ---- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "gold", "answers", "wrong"),
    [
        ("0.05/9.97", "0.00501504513541", ("0.00501504513541", "0.005015045135406219"), "0.005"),
        ("1.10*2.00", "2.2000", ("2.2", "2.20"), "2.201"),
        ("(0.010-9.34)/1", "-9.330", ("-9.33",), "9.33"),
        # Rounded at every step, twelve digits leave fewer behind: both are right.
        ("(1.00/3.00-0.33)*1000", "3.33333333300", ("3.333333333", "3.3333333333333"), "3.3334"),
    ],
)
def test_decimals_are_right_to_twelve_digits(
    expression: str, gold: str, answers: tuple[str, ...], wrong: str
) -> None:
    question = f"Only reply with the final value.\n{expression} = ?"
    example = stored("decimal_arithmetic", question, gold)
    assert all(right(example, gold, *answers))
    assert not any(right(example, wrong, "1e3", "1/3", ""))


def test_lists_of_numbers_may_be_empty() -> None:
    empty = stored("number_filtering", "?", "[]")
    assert right(empty, "[]", "[ ]", "['1']") == [True, True, False]
    kept = stored("number_filtering", "?", "['65', '-1.5']")
    assert right(kept, '["65.0", "-1.50"]', "65.0, -1.5", "[]", "['65']") == [
        True,
        True,
        False,
        False,
    ]


def test_points_radii_and_angles_are_compared_by_value() -> None:
    radius = stored(
        "advanced_geometry",
        "?",
        "2.470",
        task_type="incircle_radius",
        incircle_radius_approx=2.46991,
    )
    assert right(radius, "2.47", "2.470", "2.46991", "2.5", "2.471") == [True] * 3 + [False] * 2
    angle = stored(
        "advanced_geometry",
        "?",
        "83.70\u00b0",
        task_type="angle_measure",
        angle_ABC_degrees=83.7013,
    )
    assert right(angle, "83.7\u00b0", "83.70", "83.701", "84", "83.72") == [True] * 3 + [False] * 2
    point = stored(
        "advanced_geometry", "?", "(0.333, -2.000)", task_type="orthocenter", ortho=["1/3", "-2"]
    )
    assert all(right(point, "(0.333, -2.0)", "0.333, -2", "(0.3333333333333333, -2.0)"))
    assert not any(right(point, "(0.33, -2)", "(-2, 0.333)", "0.333", "(0.333, -2, 0)"))


def test_arithmetic_has_the_exact_value() -> None:
    for question, gold, _ in questions("rg_basic_arithmetic", 300):
        shown = re.search(
            r"(?:Calculate|of|:)? ?([-+*/() \d]+\d[-+*/() \d]*?)(?:[.?=]|$| =)", question
        )
        assert shown is not None, question
        tree = expressions.parse(shown[1].strip())
        assert tree is not None and expressions.arithmetic_value(tree) == Fraction(gold), question


def test_integers_count_as_numbers() -> None:
    for task in ("count_bits", "count_primes", "letter_counting", "rotten_oranges", "dice"):
        assert right(stored(task, "?", "7"), "7", "8", "7 or 8") == [True, False, False]
    for task in ("count_bits", "binary_alternation", "self_reference"):
        assert right(stored(task, "?", "5"), "5.0", "+5", "5.5") == [True, True, False]


def test_fractions_count_in_latex_and_with_blanks_when_reduced() -> None:
    example = stored("dice", "?", "103/126")
    assert all(right(example, "103/126", "103 / 126", "\\frac{103}{126}"))
    assert not any(right(example, "206/252", "126/103", "103", "0.8174603174603174", "103/126/1"))


# ---- questions with one answer ------------------------------------------------------------------


def test_the_integrand_has_the_variable_of_integration() -> None:
    for question, gold, _ in questions("rg_simple_integration"):
        shown = re.search(r"\u222b (.*) d(\w)", question)
        assert shown is not None, question
        assert set(re.findall("[a-zA-Z]", shown[1])) <= {shown[2]}, question
        assert set(re.findall("[a-zA-Z]", gold)) <= {shown[2], "C"}, question


def test_what_the_package_leaves_open_is_said() -> None:
    for name, words in {
        "rg_quantum_lock": "only be pressed while the light has its colour",
        "rg_color_cube_rotation": "left and right stay where they are",
        "rg_string_manipulation": "the middle one is the right one of the two",
        "rg_manipulate_matrix": "Rotations are clockwise.",
        "rg_rectangle_count": "at least 3 characters wide",
    }.items():
        assert all(words in question for question, _, _ in questions(name, 2)), name
    assert not any("rounding down" in each for each, _, _ in questions("rg_polynomial_equations"))


_TWO_COUNTS = """
   ####
   #  #
 ##\u2588##\u2588###
 # #  #  #
 ##\u2588##\u2588###
   #  \u2588###
   ###\u2588  #
      ####
"""


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "rectangle_count",
            {"answer": "1", "metadata": {"puzzle": "###\n# #\n###"}},
            {"answer": "3", "metadata": {"puzzle": _TWO_COUNTS}},
        ),
        (
            "basic_arithmetic",
            {"answer": "-3", "metadata": {"expression": "-( 7 + -1 ) / 2"}},
            {"answer": "0", "metadata": {"expression": "( 4 + -1 ) / -( ( -5 + -3 ) + -7 )"}},
        ),
        (
            "rubiks_cube",
            {"metadata": {"example_correct_answer": "U R'"}},
            {"metadata": {"example_correct_answer": ""}},
        ),
        (
            "emoji_mystery",
            {"metadata": {"emoji": "\U0001f600"}},
            {"metadata": {"emoji": "\u2764\ufe0f"}},
        ),
        ("figlet_font", {"metadata": {"font": "standard"}}, {"metadata": {"font": "runic"}}),
        (
            "gsm_symbolic",
            {"question": "Ann has 12 pens."},
            {"question": "John has 13 tubes of green paint. James has half as many tubes of it."},
        ),
    ],
)
def test_a_question_without_one_answer_is_refused(
    name: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    assert entry_corrections.CORRECTIONS[name](good, None) == good
    assert entry_corrections.CORRECTIONS[name](bad, None) is None


def test_holes_that_two_rules_fill_are_refused() -> None:
    class Data:
        class config:
            max_divisor = 4

    def entry(*rows: str) -> dict[str, Any]:
        marks = str.maketrans({"+": "\u2705", ".": "\u274c", "?": "\u2754"})
        return {"question": "Fill it.\n\n" + "\n".join(rows).translate(marks)}

    correct = entry_corrections.CORRECTIONS["modulo_grid"]
    one = entry("+.+.+", ".+.+.", "+.+.+", ".+?+.", "+.+.+")  # x + y is even
    assert correct(one, Data) == one
    # x + y or |x - y|, modulo 3 or 4: the first row and column alone do not tell them apart.
    assert correct(entry("+..?", "...?", "...?", "????"), Data) is None
