"""The teacher of formal_fallacies: whether premises force a conclusion."""

import itertools
import random
import re
from collections.abc import Mapping
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import read_body
from r1ci_jax.teachers.bbh.logic.syllogism_parsing import (
    Argument,
    Formula,
    Junction,
    Negation,
    Property,
    Statement,
    all_of,
    holds,
    negate,
    read_argument,
)
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import Pattern, PatternTeacher

_FORMS: Final[dict[str, Pattern]] = {
    "truth table": (
        (
            "What $scope can be like is decided by $n properties, so there are 2**$n kinds. The "
            "argument is invalid exactly if some kind meets the premises and not the conclusion.",
            "I search the truth table of the $n properties for a counterexample: all premises "
            "true, the conclusion false.",
        ),
        """
from itertools import product

$legend


def premises($letters):
    return all([
$premises
    ])


def conclusion($letters):
    return $conclusion


$counter = [
    row for row in product([False, True], repeat=$n)
    if premises(*row) and not conclusion(*row)
]
print("invalid" if $counter else "valid")
""",
    ),
    "sympy": (
        (
            "With $n properties as symbols, the argument is valid if the premises together with "
            "the negated conclusion cannot be satisfied; sympy decides that.",
            "I write the statements as formulas about $scope and ask sympy whether premises and "
            "negated conclusion contradict each other.",
        ),
        """
from sympy import symbols
from sympy.logic.boolalg import And, Not, Or
from sympy.logic.inference import satisfiable

$legend
$letters = symbols("$letters")
premises = [
$symbolic
]
conclusion = $symbolic_conclusion
$counter = satisfiable(And(*premises, Not(conclusion)))
print("invalid" if $counter else "valid")
""",
    ),
    "elimination": (
        (
            "I start from all 2**$n combinations of the $n properties and strike out what each "
            "premise forbids; the conclusion has to hold in all that is left.",
            "Every premise removes combinations of the $n properties. The argument is valid if "
            "what remains always has the conclusion.",
        ),
        """
$legend
outcomes = []  # of the conclusion, where the premises hold
for code in range(2 ** $n):
    $letters = (bool(code >> k & 1) for k in range($n))
    rules = [
$premises
    ]
    if all(rules):
        outcomes.append($conclusion)
print("valid" if all(outcomes) else "invalid")
""",
    ),
}

_LIST_WORDS: Final = (
    "First which combinations of the $n properties the premises permit.",
    "I count what every premise leaves of the 2**$n combinations.",
)
_LIST: Final = """
from itertools import product

$legend
rows = list(product([False, True], repeat=$n))
rules = [
$lambdas
]
for rule in rules:
    rows = [row for row in rows if rule(*row)]
    print("combinations left:", len(rows))
"""

_SLIP_WORDS: Final = (
    "I look for a combination of the $n properties that has premises and conclusion together.",
    "The argument should be valid if its $count statements fit together.",
)
_SLIP: Final = """
from itertools import product

$legend
found = False
for $letters in product([False, True], repeat=$n):
    if all([
$premises
        $conclusion,
    ]):
        found = True
print("valid" if found else "invalid")
"""

_CHECK_WORDS: Final = (
    "I count the counterexamples among the 2**$n combinations; $answer means that there $must.",
    "The number of counterexamples must agree with the verdict: $answer means that there $must.",
)
_CHECK: Final = """
from itertools import product

$legend
rules = [
$lambdas
]


def refutes($letters):
    return $denied


count = sum(
    refutes(*row) and all(rule(*row) for rule in rules)
    for row in product([False, True], repeat=$n)
)
claimed = "$answer"
print((count == 0) == (claimed == "valid"))
"""

_NAMES: Final = {"counter": ("counterexamples", "refutations", "exceptions", "against")}


def _flatten(formula: Formula) -> Formula:
    """Join `a and (b and c)` to `a and b and c`; the same with `or`."""
    if not isinstance(formula, Junction):
        return formula
    flat: list[Formula] = []
    for part in map(_flatten, formula.formulas):
        if isinstance(part, Junction) and part.word == formula.word:
            flat += part.formulas
        else:
            flat.append(part)
    return Junction(formula.word, tuple(flat))


def _python(formula: Formula, *, inner: bool = False) -> str:
    """Write a formula as Python."""
    match _flatten(formula):
        case Property(letter):
            return letter
        case Negation(denied):
            return f"not {_python(denied, inner=True)}"
        case Junction(word, parts):
            joined = f" {word} ".join(_python(part, inner=True) for part in parts)
            return f"({joined})" if inner and len(parts) > 1 else joined


def _sympy(formula: Formula) -> str:
    match _flatten(formula):
        case Property(letter):
            return letter
        case Negation(denied):
            return f"Not({_sympy(denied)})"
        case Junction(word, parts):
            return f"{word.capitalize()}({', '.join(map(_sympy, parts))})"


def _relevant(data: Argument) -> list[Statement] | None:
    """Return the premises of which a counterexample consists; None without one to ask about.

    A conclusion on somebody is refuted by a world where nobody is so: then the one of whom the
    premises tell is not so either. A conclusion on everybody is refuted by anybody.
    """
    general = [p for p in data.premises if p.quantity == "all"]
    named = [p for p in data.premises if p.quantity == "one"]
    some = [p for p in data.premises if p.quantity == "some"]
    if data.conclusion.quantity == "all":
        return general
    if data.conclusion.quantity == "one":
        return [*general, *named]
    if len(some) + bool(named) > 1:
        return None
    return [*general, *named, *some]


def is_valid(data: Argument) -> bool:
    """Return whether no combination meets the premises and not the conclusion."""
    return all(holds(data.conclusion.formula, true) for true in _permitted(data))


def _rows(data: Argument) -> list[dict[str, bool]]:
    """Return all combinations of the properties."""
    letters = [chr(ord("a") + k) for k in range(len(data.predicates))]
    return [
        dict(zip(letters, values, strict=True))
        for values in itertools.product((False, True), repeat=len(letters))
    ]


def _permitted(data: Argument) -> list[dict[str, bool]]:
    """Return the combinations that the premises permit."""
    premises = [p.formula for p in _relevant(data) or data.premises]
    return [true for true in _rows(data) if all(holds(p, true) for p in premises)]


class FormalFallacies(PatternTeacher[Argument]):
    """Looks for a counterexample."""

    task = "bbh_formal_fallacies"
    forms = tuple(_FORMS)
    names = _NAMES
    patterns = _FORMS
    checking = (_CHECK_WORDS, _CHECK)
    exploring = (_LIST_WORDS, _LIST)
    slip = (_SLIP_WORDS, _SLIP)

    @override
    def parse(self, question: str) -> Argument:
        text = read_body(question).partition("\nIs the argument, given")[0]
        return read_argument(text)

    @override
    def values(self, data: Argument, rng: random.Random) -> dict[str, object]:
        premises = _relevant(data) or list(data.premises)
        letters = [chr(ord("a") + k) for k in range(len(data.predicates))]
        scope = {"all": "anybody or anything", "some": "the one that the premises tell of"}
        return {
            "n": len(letters),
            "letters": ", ".join(letters),
            "legend": "\n".join(
                f"# {letter}: {name}" for letter, name in zip(letters, data.predicates, strict=True)
            ),
            "scope": scope.get(data.conclusion.quantity, "the one who is named"),
            "premises": "\n".join(f"        {_python(p.formula)},  # {_told(p)}" for p in premises),
            "lambdas": "\n".join(
                f"    lambda {', '.join(letters)}: {_python(p.formula)}," for p in premises
            ),
            "symbolic": "\n".join(f"    {_sympy(p.formula)},  # {_told(p)}" for p in premises),
            "conclusion": _python(data.conclusion.formula),
            "symbolic_conclusion": _sympy(data.conclusion.formula),
            "denied": _python(negate(data.conclusion.formula)),
            "count": len(premises) + 1,
        }

    @override
    def step(self, data: Argument, form: str, rng: random.Random) -> Step:
        step = super().step(data, form, rng)
        return Step(words=self._reading(data, rng) + step.words, code=step.code)

    def _reading(self, data: Argument, rng: random.Random) -> str:
        """Say which premises the counterexample is about."""
        left_out = len(data.premises) - len(_relevant(data) or data.premises)
        quantity = data.conclusion.quantity
        if quantity == "some":
            return rng.choice(
                (
                    "If the conclusion were false, nobody would be as it says, not even the one "
                    "the premises speak of. ",
                    "The premises present one example; the question is whether it must also be an "
                    "example of the conclusion. ",
                )
            )
        if left_out and quantity == "all":
            return "The conclusion is about all, for which only the general premises help. "
        return ""

    @override
    def answer_values(self, data: Argument, answer: str) -> dict[str, object]:
        return {
            "answer": answer,
            "must": "is none" if answer == "valid" else "is at least one",
        }

    @override
    def first_attempt(self, data: Argument, rng: random.Random) -> Step | None:
        if is_valid(data):
            return None
        formulas = [p.formula for p in _relevant(data) or data.premises]
        if not any(holds(all_of(*formulas, data.conclusion.formula), t) for t in _rows(data)):
            return None
        return super().first_attempt(data, rng)

    @override
    def in_words(self, data: Argument, rng: random.Random) -> tuple[str, str] | None:
        permitted = _permitted(data)
        if len(permitted) > 4 or not permitted or len(data.predicates) > 4:
            return None
        legend = "; ".join(
            f"{chr(ord('a') + k)} for {name}" for k, name in enumerate(data.predicates)
        )
        lines = []
        rows = _rows(data)
        premises = _relevant(data) or data.premises
        # What is told of one individual leaves the fewest combinations.
        for premise in sorted(premises, key=lambda each: each.quantity == "all"):
            struck = [true for true in rows if not holds(premise.formula, true)]
            rows = [true for true in rows if holds(premise.formula, true)]
            told = _lettered(premise)
            verb, shown = ("rules out", struck) if len(struck) <= len(rows) else ("leaves", rows)
            listed = "; ".join(map(_shown, shown)) or "nothing more"
            lines.append(f"{told[0].upper()}{told[1:]}: this {verb} {listed}.")
        asked = _lettered(data.conclusion)
        lines.append(f"What is left, and whether the conclusion ({asked}) holds:")
        for true in permitted:
            fits = "yes" if holds(data.conclusion.formula, true) else "no, a counterexample"
            lines.append(f"{_shown(true)}: {fits}.")
        opening = rng.choice(
            (
                f"Of the {2 ** len(data.predicates)} combinations I rule out what the premises "
                "forbid.",
                f"There are {2 ** len(data.predicates)} combinations; each premise forbids some.",
            )
        )
        text = f"I write {legend}. {self._reading(data, rng)}{opening}\n" + "\n".join(lines)
        return text, "valid" if is_valid(data) else "invalid"

    @override
    def wrong_answer(self, data: Argument, answer: str, rng: random.Random) -> str:
        return "invalid" if answer == "valid" else "valid"


def _shown(true: Mapping[str, bool]) -> str:
    """Write a combination such as `a, not b`."""
    return ", ".join(letter if yes else f"not {letter}" for letter, yes in true.items())


def _lettered(statement: Statement) -> str:
    """Return the statement with its letters."""
    return re.sub(r"P(\d+)", lambda found: chr(ord("a") + int(found[1])), statement.words)


def _told(statement: Statement) -> str:
    """Return the statement with its letters, in a few words."""
    text = _lettered(statement)
    return text if len(text) <= 60 else text[:57] + "..."


TEACHERS: tuple[Teacher[Any], ...] = (FormalFallacies(),)
