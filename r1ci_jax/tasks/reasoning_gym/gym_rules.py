"""Rules that score a Reasoning-Gym answer here, from the gold, the answer and the stored entry."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, cast

from r1ci_jax.tasks import answers, expressions

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_SHOWN_NUMBER = re.compile(
    r"[+-]?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
)
_HEXADECIMAL = re.compile("-?0x[0-9a-fA-F]+")
_VARIABLES: Final = "xyz"
_STATEMENT = re.compile(r"([A-Z][a-z]+) is an? ([a-z]+)", re.IGNORECASE)
_DECIMAL = re.compile(r"([0-9]+)\.([0-9]+)")
_FRACTION = re.compile(r"([0-9]+) ?/ ?([0-9]+)|\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}")
_DURATION = re.compile(
    r"(?:(?P<days>[0-9]+) days?(?:, (?!$)|$))?"
    r"(?:(?P<hours>[0-9]{1,2}):(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9](?:\.[0-9]+)?))?)?"
)
_PAIR = re.compile(r"\s*([A-Z])\s*=\s*([0-9])\s*")


def lines(text: str) -> list[str]:
    """Return the text's non-blank lines, with single blanks between their words."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def same_text(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare the texts up to white space."""
    del entry
    return lines(answer) == lines(gold)


def same_words(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare the words up to case and white space; none may be missing or added."""
    del entry
    return answer.casefold().split() == gold.casefold().split()


def numbers(text: str) -> list[Decimal] | None:
    """Parse numbers separated by blanks or commas, bracketed and quoted or not, or return None."""
    text = text.strip()
    if (text[:1], text[-1:]) == ("[", "]"):
        text = text[1:-1]
        if not text.strip():
            return []
    parts = [part.strip().strip("'\"") for part in re.split(r"\s*,\s*|\s+", text.strip())]
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    return [Decimal(part) for part in parts]


def same_numbers(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare as numbers: 17.0 is 17."""
    del entry
    found = numbers(answer)
    return found is not None and found == numbers(gold)


def shown_number(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Accept the right candidate as the question shows it, and no other value.

    The gold is a float with digits that the question may not show: 208849364.99600002 stands there
    as 208849364.996000. The value must be the shown one or the gold, in any notation of the
    question: plain, with commas, or with an exponent. The package allows 0.01 either way, and
    thus other candidates.
    """
    metadata = entry["metadata"]
    pairs = zip(metadata["formatted_candidates"], metadata["candidates"], strict=True)
    shown = [text for text, value in pairs if value == metadata["solution"]]
    found = _shown_value(answer)
    return found is not None and found in map(_shown_value, (gold, *shown))


def _shown_value(text: str) -> Decimal | None:
    text = text.strip()
    return Decimal(text.replace(",", "")) if _SHOWN_NUMBER.fullmatch(text) else None


def same_decimal(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare with the exact value of the question's expression, up to a unit of the 12th digit.

    The gold is rounded at every step, so what lies no further from the exact value is right too.
    """
    expression = entry["question"].rpartition("\n")[2].removesuffix(" = ?")
    whole = _DECIMAL.sub(lambda m: f"({int(m[1] + m[2])}/{10 ** len(m[2])})", expression)
    tree = expressions.parse(whole, limit=len(whole))
    exact = None if tree is None else expressions.arithmetic_value(tree)
    assert exact is not None, expression
    allowed = max(abs(exact) / 10**11, abs(Fraction(gold) - exact))
    return _NUMBER.fullmatch(answer) is not None and abs(Fraction(answer) - exact) <= allowed


def same_fraction(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare numerator and denominator: the fraction must be reduced as the gold is."""
    del entry
    found, expected = _FRACTION.fullmatch(answer), _FRACTION.fullmatch(gold)
    if found is None or expected is None:
        return gold == answer
    return [int(n) for n in found.groups() if n] == [int(n) for n in expected.groups() if n]


def same_duration(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare days, and the rest as seconds: `1 day, 2:03` is `1 days, 02:03:00`."""
    del entry
    return _duration(answer) is not None and _duration(answer) == _duration(gold)


def _duration(text: str) -> tuple[int, Decimal] | None:
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds = found.group("days", "hours", "minutes", "seconds")
    return int(days or 0), int(hours or 0) * 3600 + int(minutes or 0) * 60 + Decimal(seconds or 0)


def geometry(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare a point, a radius or an angle by value, to the asked number of decimal places."""
    metadata = entry["metadata"]
    match metadata["task_type"]:
        case "orthocenter":
            exact, places = [Fraction(part) for part in metadata["ortho"]], 3
        case "incircle_radius":
            exact, places = [Fraction(metadata["incircle_radius_approx"])], 3
        case _:
            exact, places = [Fraction(metadata["angle_ABC_degrees"])], 2
    found, golds = _coordinates(answer), _coordinates(gold)
    if len(found) != len(exact):
        return False
    return all(
        _NUMBER.fullmatch(text) is not None
        and (
            Fraction(text) == Fraction(shown)
            or answers.rounds_to(value, text.removeprefix("+"), places=places)
        )
        for text, shown, value in zip(found, golds, exact, strict=True)
    )


def _coordinates(text: str) -> list[str]:
    return [part.strip() for part in text.strip("()").removesuffix("\u00b0").split(",")]


def same_json(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare as JSON values of the same types."""
    del entry
    found = answers.json_value(answer, limit=len(answer))
    return found is not None and json.dumps(found) == json.dumps(json.loads(gold))


def same_hexadecimal(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare as hexadecimal numbers: 0x0F is 0xf."""
    del entry
    found = _HEXADECIMAL.fullmatch(answer)
    return found is not None and int(answer, 16) == int(gold, 16)


def survo(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Accept any filling that obeys the stated rules; the package accepts its own alone."""
    del gold
    rows = [numbers(line) for line in lines(answer)]
    puzzle: list[list[int]] = entry["metadata"]["puzzle"]
    if None in rows or [len(row or ()) for row in rows] != [len(row) for row in puzzle]:
        return False
    grid = cast(list[list[Decimal]], rows)
    cells = [(given, grid[y][x]) for y, row in enumerate(puzzle) for x, given in enumerate(row)]
    filled = sorted(found for given, found in cells if given == 0)
    kept = all(found == given for given, found in cells if given != 0)
    sums = all(sum(line[:-1]) == line[-1] for line in (*grid, *zip(*grid, strict=True)))
    candidates = [int(number) for number in entry["metadata"]["candidate_numbers"]]
    return kept and sums and filled == sorted(candidates)


def countdown(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Accept any formula of the numbers, each used once, whose exact value is the target."""
    del gold
    tree = expressions.parse(answer)
    if tree is None or expressions.arithmetic_value(tree) != entry["metadata"]["target"]:
        return False
    return sorted(expressions.numbers(tree)) == sorted(entry["metadata"]["numbers"])


def same_polynomial(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare as polynomials with whole coefficients."""
    del entry
    trees = [expressions.parse(text, limit=len(text)) for text in (gold, answer)]
    found = [tree and expressions.polynomial(tree, _VARIABLES) for tree in trees]
    return found[0] is not None and found[0] == found[1]


def coloring(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Accept any map of all vertices, and no others, to colors that differ along the edges."""
    del gold
    puzzle = entry["metadata"]["puzzle"]
    found = answers.json_value(answer, limit=len(answer))
    if not isinstance(found, dict) or set(found) != set(map(str, puzzle["vertices"])):
        return False
    if not all(type(color) is int and color in puzzle["color_options"] for color in found.values()):
        return False
    return all(found[str(one)] != found[str(other)] for one, other in puzzle["edges"])


def same_statements(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare what is said of each person; every one is named once, in any order."""
    del entry
    said, expected = _statements(answer), _statements(gold)
    return said is not None and expected is not None and sorted(said) == sorted(expected)


def _statements(text: str) -> list[tuple[str, str]] | None:
    parts = re.split(r"\s*,\s*(?:and\s+)?|\s+and\s+", text.strip().removesuffix("."))
    found = [_STATEMENT.fullmatch(" ".join(part.split())) for part in parts]
    known = [(match[1].casefold(), match[2].casefold()) for match in found if match is not None]
    return known if len(known) == len(found) else None


def same_lists(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare as lists of lists, in any order; none may be missing, added or repeated."""
    del entry
    found = _lists_of_words(answer)
    return found is not None and sorted(found) == sorted(json.loads(gold))


def same_groups(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Compare as lists of lists, both in any order; nothing may be missing, added or repeated."""
    del entry
    found = _lists_of_words(answer)
    return found is not None and sorted(map(sorted, found)) == sorted(map(sorted, json.loads(gold)))


def _lists_of_words(text: str) -> list[list[str]] | None:
    """Parse lists of lists of words in JSON or as Python prints them; None for all else."""
    found = answers.json_value(text.replace("'", '"'), limit=len(text))
    if not isinstance(found, list) or not all(isinstance(each, list) for each in found):
        return None
    return found if all(isinstance(word, str) for each in found for word in each) else None


def cryptarithm(gold: str, answer: str, entry: dict[str, Any]) -> bool:
    """Accept any mapping of all letters to different digits that makes the sum right."""
    del gold
    found = [_PAIR.fullmatch(part) for part in answer.split(",")]
    pairs = [(match[1], match[2]) for match in found if match is not None]
    digits = dict(pairs)
    metadata = entry["metadata"]
    if len(pairs) < len(found) or len(digits) < len(pairs) or set(digits) != {*metadata["letters"]}:
        return False
    words = [*metadata["words_letters"], metadata["result_letters"]]
    spelled = ["".join(digits[letter] for letter in word) for word in words]
    if any(len(number) > 1 and number[0] == "0" for number in spelled):
        return False
    *summands, total = map(int, spelled)
    return len(set(digits.values())) == len(digits) and sum(summands) == total


RULES: Final[dict[str, Callable[[str, str, dict[str, Any]], bool]]] = {
    "text": same_text,
    "words": same_words,
    "numbers": same_numbers,
    "shown_number": shown_number,
    "decimal": same_decimal,
    "duration": same_duration,
    "fraction": same_fraction,
    "geometry": geometry,
    "json": same_json,
    "hexadecimal": same_hexadecimal,
    "survo": survo,
    "countdown": countdown,
    "polynomial": same_polynomial,
    "coloring": coloring,
    "statements": same_statements,
    "lists": same_lists,
    "groups": same_groups,
    "cryptarithm": cryptarithm,
}
"""Rules by name: each scores the answer from the gold, the answer and the stored entry."""
