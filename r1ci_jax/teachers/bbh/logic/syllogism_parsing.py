"""Reads the arguments of formal_fallacies: statements about one-place predicates."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Final, Literal

from r1ci_jax.teachers.teacher import UnreadableQuestionError

_DEGREE: Final = "(?:rare|frequent|infrequent|occasional|regular|loyal|close) "
_CONSUMES: Final = (
    rf"(?:{_DEGREE})?(?:consumer|user|purchaser|buyer|owner) of (?:an? )?"
    r".+?\b(?:soap|shampoo)\b"
)
_END: Final = (
    r"(?=,? (?:and(?! [A-Z])|or|nor|is|who|that|while|without|but|yet)\b"
    r"|, (?![A-Z0-9])|[.]? ?$|\.[ a-z]|;)"
)
_OTHERS: Final = (
    "(?:ingredient|ex-fan|ex-supporter|fan|supporter|admirer|backer|critic|devotee|expert|follower"
    "|friend|member|opponent) (?:of|to)"
)
_CLOSING: Final = rf"{_OTHERS} (?:the )?.+?{_END}"
_RELATIVE: Final = rf"(?:{_DEGREE})?(?!none|one|premise|first)[a-z-]+ of [A-Z]\w+\b"
_PREDICATE: Final = re.compile(rf"(?:\ban? )?\b({_CONSUMES}|{_CLOSING}|{_RELATIVE})")
_LEAD: Final = re.compile(
    r"^(?:(?:first|second|third|fourth|fifth)(?: of all|ly)?(?: premise)?|next|plus|moreover"
    r"|finally|moving on|now|to (?:begin|start) with|last|lastly)[,:] ?",
    re.IGNORECASE,
)
_THUS: Final = re.compile(
    r"^(?:therefore|hence|thus|so, necessarily|in consequence|consequently|it follows that"
    r"|we may conclude(?: that)?|all this entails that|from this(?: it)? follows(?: that)?"
    r"|from all this follows(?: that)?|this entails that)[,:]? ?",
    re.IGNORECASE,
)

type Formula = Property | Negation | Junction
"""Of the properties of one individual."""


@dataclasses.dataclass(frozen=True)
class Property:
    """The property that the letter stands for."""

    letter: str


@dataclasses.dataclass(frozen=True)
class Negation:
    """The formula does not hold."""

    formula: Formula


@dataclasses.dataclass(frozen=True)
class Junction:
    """All formulas hold, or at least one of them does."""

    word: Literal["and", "or"]
    formulas: tuple[Formula, ...]


Quantity = Literal["all", "some", "one"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statement:
    """A formula that holds for everybody, for somebody, or for the one who has a name."""

    quantity: Quantity
    formula: Formula
    words: str
    """The statement with letters in place of the predicates."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Argument:
    """Premises and a conclusion."""

    predicates: tuple[str, ...]
    """What the letters a, b, c stand for."""
    premises: tuple[Statement, ...]
    conclusion: Statement


def negate(formula: Formula) -> Formula:
    """Return the negation."""
    return formula.formula if isinstance(formula, Negation) else Negation(formula)


def all_of(*formulas: Formula) -> Formula:
    """Return the formula that all hold."""
    return Junction("and", formulas)


def _any_of(*formulas: Formula) -> Formula:
    return Junction("or", formulas)


def _implies(condition: Formula, result: Formula) -> Formula:
    return _any_of(negate(condition), result)


def _describe(text: str) -> Formula:
    """Read a description such as `not a or not b`."""
    text = text.replace(", or both", "")
    text = re.sub(r"\b(?:also|however|too|either|(?<!not )both:?|an?|every)(?!\w)", " ", text)
    text = text.replace("not both:", "not both")
    text = " ".join(text.replace(" ,", ",").split()).strip(" ,")
    if (found := re.fullmatch(r"P(\d+)", text)) is not None:
        return Property(chr(ord("a") + int(found[1])))
    for mark in (" and, in addition, ", " and, in the same time, ", ", in addition, "):
        if mark in text:
            left, right = text.split(mark, 1)
            return all_of(_describe(left), _describe(right))
    if " or, otherwise, " in text:
        left, right = text.split(" or, otherwise, ", 1)
        return _any_of(_describe(left), _describe(right))
    if (found := re.fullmatch(r"(.+?),? (?:while|but|yet) (.+)", text)) is not None:
        return all_of(_describe(found[1]), _describe(found[2]))
    for start in ("none of this: ", "neither "):
        if text.startswith(start):
            parts = re.split(r" nor | or |, ", text.removeprefix(start))
            return all_of(*(negate(_describe(part)) for part in parts))
    for start in ("at least one of these: ", "one of these: "):
        if text.startswith(start):
            parts = re.split(r",? or |, ", text.removeprefix(start))
            return _any_of(*(_describe(part) for part in parts))
    if text.startswith("not both "):
        return negate(_describe(text.removeprefix("not both ")))
    return _connect(text)


def _connect(text: str) -> Formula:
    """Read parts that `or` and `and` join."""
    # `not a or b` with a single `not` denies both; `not a or not b` denies each.
    if re.fullmatch(r"not P\d+ or P\d+", text):
        return negate(_describe(text.removeprefix("not ")))
    alternatives = re.split(r",? or ", text)
    if len(alternatives) > 1:
        parts = [part for piece in alternatives for part in piece.split(", ") if part]
        return _any_of(*(_describe(part) for part in parts))
    joined = re.split(r",? and ", text)
    if (found := re.fullmatch(r"(.+?) and (neither .+|not both .+)", text)) is not None:
        joined = [found[1], found[2]]
    if len(joined) == 2 and re.fullmatch(r"(?:P\d+, )*P\d+", joined[0]):
        joined = [*joined[0].split(", "), joined[1]]
    if len(joined) > 1:
        return all_of(*(_describe(part) for part in joined))
    if text.startswith("not "):
        return negate(_describe(text.removeprefix("not ")))
    raise UnreadableQuestionError(f"an unknown description: {text!r}")


def _sufficient(found: re.Match[str]) -> tuple[Quantity, Formula]:
    texts = [
        re.sub(r"\bnot being\b", "not", found[k]).replace("being ", "").replace("to be ", "")
        for k in (1, 3)
    ]
    first, second = _describe(texts[0]), _describe(texts[1])
    if found[2] == "sufficient":
        return "all", _implies(first, second)
    return "all", _implies(second, first)


def _read_clause(text: str) -> tuple[Quantity, Formula]:
    """Read one statement in lower case, with P0, P1 for the predicates."""
    sufficient = r"((?:to be |not being |being ).+) is (sufficient|necessary) for (.+)"
    if (found := re.fullmatch(sufficient, text)) is not None:
        return _sufficient(found)
    denied = r"it is (?:false|not the case|not true) that (.+)"
    if (found := re.fullmatch(denied, text)) is not None:
        quantity, formula = _read_clause(found[1])
        opposite: dict[Quantity, Quantity] = {"all": "some", "some": "all", "one": "one"}
        return opposite[quantity], negate(formula)
    if found := re.fullmatch(r"if (?:someone|something|somebody) is (.+?), then .+? is (.+)", text):
        return "all", _implies(_describe(found[1]), _describe(found[2]))
    if (found := re.fullmatch(r"(?:nobody|nothing|no one) is (.+)", text)) is not None:
        return "all", negate(_describe(found[1]))
    everyone = r"(?:whoever|whatever|everyone who|everybody who|everything that|everything which)"
    if (found := re.fullmatch(rf"{everyone} is (.+?),? is (.+)", text)) is not None:
        return "all", _implies(_describe(found[1]), _describe(found[2]))
    if (found := re.fullmatch(r"(not every|every|each|no|some) (.+)", text)) is not None:
        return _quantified(found[1], found[2])
    exists = (
        r"there (?:is|exists) "
        r"(?:(?:somebody|someone|something)|an? (P\d+)|(P\d+))"
        r" (?:who|that|which) is (.+)"
    )
    if (found := re.fullmatch(exists, text)) is not None:
        kind = found[1] or found[2]
        formula = _describe(found[3])
        return "some", all_of(_describe(kind), formula) if kind else formula
    if (found := re.fullmatch(r"(?:somebody|someone|something) is (.+)", text)) is not None:
        return "some", _describe(found[1])
    # `Someone who is a is b` tells of everyone who is a.
    some_who = r"(?:somebody|someone|something) (?:who|that) is (.+?),? is (.+)"
    if (found := re.fullmatch(some_who, text)) is not None:
        return "all", _implies(_describe(found[1]), _describe(found[2]))
    if (found := re.fullmatch(r"there is no (P\d+) (?:who|that) is (.+)", text)) is not None:
        return _quantified("no", f"{found[1]} is {found[2]}")
    if (found := re.fullmatch(r"(?:(?!P\d).)+? is (.+)", text)) is not None and " is " not in found[
        1
    ]:
        return "one", _describe(found[1])
    raise UnreadableQuestionError(f"an unknown statement: {text!r}")


def _quantified(word: str, rest: str) -> tuple[Quantity, Formula]:
    """Read what follows `every`, `no`, `some` or `not every`."""
    found = re.fullmatch(r"(P\d+) (?:who|that|which) is (.+?),? is (.+)", rest)
    if found is not None:
        subject: Formula = all_of(_describe(found[1]), _describe(found[2]))
        told = found[3]
    else:
        found = re.fullmatch(r"(P\d+)((?:,? and (?:every |no |some )?P\d+)*) is (.+)", rest)
        if found is None:
            raise UnreadableQuestionError(f"an unknown statement: {rest!r}")
        kinds = re.findall(r"P\d+", found[1] + found[2])
        parts = [_describe(kind) for kind in kinds]
        subject = _any_of(*parts) if len(parts) > 1 else parts[0]
        told = found[3]
    result = _describe(told)
    match word:
        case "some":
            return "some", all_of(subject, result)
        case "not every":
            return "some", all_of(subject, negate(result))
        case "no":
            return "all", _implies(subject, negate(result))
        case _:
            return "all", _implies(subject, result)


def read_argument(text: str) -> Argument:
    """Read the premises and the conclusion.

    Raises:
        UnreadableQuestionError: A statement has an unknown form.
    """
    if (found := re.match(r'.*?argument[^:?."]*: (.+)', text, re.DOTALL)) is None:
        raise UnreadableQuestionError("no argument is announced")
    argued = re.sub(r"\b(1|[A-Z]|Mrs|Dr)\. ", r"\1· ", found[1].strip('" '))
    predicates: list[str] = []

    def letter(found: re.Match[str]) -> str:
        name = found[1].replace("·", ".")
        if name not in predicates:
            predicates.append(name)
        return f"P{predicates.index(name)}"

    replaced = _PREDICATE.sub(letter, argued)
    sentences = [part.strip() for part in re.split(r"\.", replaced) if part.strip()]
    statements = []
    for number, sentence in enumerate(sentences):
        last = number == len(sentences) - 1
        body = (_THUS if last else _LEAD).sub("", sentence)
        if last and body == sentence:
            raise UnreadableQuestionError("the last sentence draws no conclusion")
        body = body[0].lower() + body[1:] if body[0] != "P" else body
        quantity, formula = _read_clause(body)
        statements.append(Statement(quantity=quantity, formula=formula, words=body))
    if len(statements) < 2 or len(predicates) > 8:
        raise UnreadableQuestionError("not a list of premises and a conclusion")
    return Argument(
        predicates=tuple(predicates), premises=tuple(statements[:-1]), conclusion=statements[-1]
    )


def holds(formula: Formula, true: Mapping[str, bool]) -> bool:
    """Evaluate a formula."""
    match formula:
        case Property(letter):
            return true[letter]
        case Negation(denied):
            return not holds(denied, true)
        case Junction("and", formulas):
            return all(holds(each, true) for each in formulas)
        case Junction(_, formulas):
            return any(holds(each, true) for each in formulas)
