"""The teacher of boolean_expressions."""

import dataclasses
import random
import re
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import match, read_body
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import Pattern, PatternTeacher, quote

_NAMES: Final = {
    "tokens": ("tokens", "symbols", "parts", "items"),
    "value": ("value", "result", "outcome"),
    "pos": ("pos", "position", "i", "cursor"),
    "expression": ("expression", "text", "formula", "statement"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expression:
    """An expression as the question writes it."""

    text: str

    @property
    def tokens(self) -> list[str]:
        """Its words, numbers, operators and brackets."""
        return re.findall(r"[A-Za-z]+|\d+|[()*+-]", self.text)


_BOOLEAN_DIRECT = """
$expression = $literal
$value = eval($expression)
print($value)
"""

_BOOLEAN_TERMS = """
terms = $pieces  # what stands between the outer `or`s
$value = any(eval(term) for term in terms)
print($value)
"""

_BOOLEAN_DESCENT = """
import re

$tokens = re.findall(r"[a-zA-Z]+|[()]", $literal)
$pos = 0


def parse_or():
    global $pos
    $value = parse_and()
    while $pos < len($tokens) and $tokens[$pos] == "or":
        $pos += 1
        right = parse_and()
        $value = $value or right
    return $value


def parse_and():
    global $pos
    $value = parse_not()
    while $pos < len($tokens) and $tokens[$pos] == "and":
        $pos += 1
        right = parse_not()
        $value = $value and right
    return $value


def parse_not():
    global $pos
    token = $tokens[$pos]
    $pos += 1
    if token == "not":
        return not parse_not()
    if token == "(":
        $value = parse_or()
        $pos += 1  # the closing bracket
        return $value
    return token == "True"


print(parse_or())
"""

_BOOLEAN_REWRITE = """
import re

$expression = $literal
word = "(True|False)"
rules = [
    (rf"\\( *{word} *\\)", lambda m: m[1]),
    (rf"not {word}", lambda m: str(m[1] == "False")),
    (rf"{word} and {word}", lambda m: str(m[1] == m[2] == "True")),
    (rf"(?<!and ){word} or {word}(?! and)", lambda m: str("True" in m.groups())),
]
while $expression not in ("True", "False"):
    for pattern, replace in rules:
        $expression, changed = re.subn(pattern, replace, $expression, count=1)
        if changed:
            break
print($expression)
"""

_BOOLEAN_STACK = """
rank = {"or": 1, "and": 2, "not": 3}
$tokens = $literal.replace("(", " ( ").replace(")", " ) ").split()
values, operators = [], []


def apply():
    operator = operators.pop()
    right = values.pop()
    if operator == "not":
        values.append(not right)
    else:
        left = values.pop()
        values.append(left and right if operator == "and" else left or right)


for token in $tokens:
    if token in ("True", "False"):
        values.append(token == "True")
    elif token in ("(", "not"):
        operators.append(token)
    elif token == ")":
        while operators[-1] != "(":
            apply()
        operators.pop()
    else:
        while operators and rank.get(operators[-1], 0) >= rank[token]:
            apply()
        operators.append(token)
while operators:
    apply()
print(values[0])
"""

_BOOLEAN_PIECES = """
pieces = $pieces
for piece in pieces:
    print(piece, "=", eval(piece))
"""

_BOOLEAN_CHECK = """
# With 0 and 1 for the truth values: not x is 1 - x, and is min, or is max.
class Bit:
    def __init__(self, n):
        self.n = n

    def __and__(self, other):
        return Bit(min(self.n, other.n))

    def __or__(self, other):
        return Bit(max(self.n, other.n))

    def __invert__(self):
        return Bit(1 - self.n)


$expression = $literal
for old, new in [("and", "&"), ("or", "|"), ("not", "~"), ("True", "Bit(1)"), ("False", "Bit(0)")]:
    $expression = $expression.replace(old, new)
claimed = $answer
print(bool(eval($expression).n) == claimed)
"""

_BOOLEAN_LEFT_TO_RIGHT = """
$tokens = $literal.replace("(", " ").replace(")", " ").split()
$value, operator, negate = None, None, False
for token in $tokens:
    if token == "not":
        negate = not negate
    elif token in ("and", "or"):
        operator = token
    else:
        operand = (token == "True") != negate
        negate = False
        if operator is None:
            $value = operand
        else:
            $value = ($value and operand) if operator == "and" else ($value or operand)
print($value)
"""

_BOOLEAN_LOOSE_AND = """
$expression = $literal
$value = all(eval(part) for part in $expression.split(" and "))
print($value)
"""
_LOOSE_AND_WORDS: Final = (
    "All parts that `and` joins must be true.",
    "I split the expression at each `and` and evaluate the parts.",
)
_TERMS_WORDS: Final = (
    "`or` binds loosest and parts the expression into $pieces_in terms; it is true if any of them "
    "is.",
    "I split at the outer `or`: $pieces_in terms, and one true term is enough.",
)
_FORMS: Final[dict[str, Pattern]] = {
    "direct": (
        (
            "The question states Python's own precedence, so the expression can be evaluated as it "
            "stands.",
            "This is already a Python expression: not, then and, then or. I let Python evaluate "
            "it.",
            "With $size words and brackets it is easy to slip by hand; Python uses the same "
            "precedence as the question.",
        ),
        _BOOLEAN_DIRECT,
    ),
    "recursive descent": (
        (
            "`or` binds loosest, then `and`, then `not`. One function for each of these levels "
            "reads the $size words and brackets correctly.",
            "I parse the expression by recursive descent: an or-level made of and-levels made of "
            "negated atoms, where a bracket starts again at the or-level.",
            "A small recursive parser respects the precedence: not, then and, then or.",
        ),
        _BOOLEAN_DESCENT,
    ),
    "rewriting": (
        (
            "I simplify the text step by step: drop the brackets around a single value, then "
            "resolve `not`, then `and`, then `or`, until one word is left.",
            "The $size words and brackets can be reduced by rewriting rules, always by the "
            "tightest one that fits: brackets, not, and, or.",
        ),
        _BOOLEAN_REWRITE,
    ),
    "two stacks": (
        (
            "Two stacks, one of values and one of operators, evaluate an infix expression; the "
            "ranks put `not` before `and`, and `and` before `or`.",
            "Dijkstra's shunting-yard method reads the $size words and brackets in one pass and in "
            "the precedence of not, and, or.",
        ),
        _BOOLEAN_STACK,
    ),
}


def split_or(tokens: list[str]) -> list[str]:
    """Split an expression at every `or` that stands outside brackets."""
    parts: list[list[str]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token == "(") - (token == ")")
        if token == "or" and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return [join_boolean(part) for part in parts]


def join_boolean(tokens: list[str]) -> str:
    """Write the words of an expression with blanks between them."""
    return " ".join(tokens).replace("( ", "(").replace(" )", ")")


class BooleanExpressions(PatternTeacher[Expression]):
    """Evaluates an expression of True, False, not, and, or."""

    task = "bbh_boolean_expressions"
    forms = tuple(_FORMS)
    names = _NAMES
    patterns = _FORMS
    checking = (
        (
            "I verify this by arithmetic on bits: not x is 1 - x, and is a minimum, or a maximum.",
            "A different calculation should agree: with 0 and 1, `and` is min and `or` is max.",
        ),
        _BOOLEAN_CHECK,
    )
    exploring = (
        (
            "First the $pieces_in terms between the outer `or`s, each on its own.",
            "Before the whole expression I look at the $pieces_in parts that the outer `or`s join.",
        ),
        _BOOLEAN_PIECES,
    )
    slip = (
        (
            "I go through the words from left to right and keep a running value.",
            "A running value, updated word by word from the left, is enough.",
        ),
        _BOOLEAN_LEFT_TO_RIGHT,
    )

    @override
    def parse(self, question: str) -> Expression:
        found = match(r"((?:True|False|not|and|or|[() ])+) is", read_body(question))
        return Expression(text=found[1].strip())

    @override
    def values(self, data: Expression, rng: random.Random) -> dict[str, object]:
        pieces = split_or(data.tokens)
        return {
            "literal": quote(data.text),
            "size": len(data.tokens),
            "pieces": f"[{', '.join(map(quote, pieces))}]",
            "pieces_in": len(pieces),
        }

    @override
    def step(self, data: Expression, form: str, rng: random.Random) -> Step:
        if form == "direct" and len(split_or(data.tokens)) > 1 and rng.random() < 0.5:
            return self._fill(data, (_TERMS_WORDS, _BOOLEAN_TERMS), {}, rng)
        return super().step(data, form, rng)

    @override
    def answer_values(self, data: Expression, answer: str) -> dict[str, object]:
        return {"answer": answer}

    @override
    def small_case(self, data: Expression, rng: random.Random) -> Step | None:
        return None if len(split_or(data.tokens)) < 2 else super().small_case(data, rng)

    @override
    def first_attempt(self, data: Expression, rng: random.Random) -> Step | None:
        right = evaluate_boolean(data.tokens)
        if "(" not in data.text and _with_loose_and(data.text) != right:
            return self._fill(data, (_LOOSE_AND_WORDS, _BOOLEAN_LOOSE_AND), {}, rng)
        return None if _left_to_right(data.tokens) == right else super().first_attempt(data, rng)

    @override
    def in_words(self, data: Expression, rng: random.Random) -> tuple[str, str]:
        tokens = list(data.tokens)
        lines = [join_boolean(tokens)]
        while len(tokens) > 1:
            tokens = simplify(tokens)
            lines.append(join_boolean(tokens))
        opening = rng.choice(
            (
                "Brackets first, then not, then and, then or, one layer at a time:",
                "I simplify step by step, in the order brackets, not, and, or:",
                "Working from the inside outwards:",
            )
        )
        return opening + "\n" + "\n= ".join(lines), tokens[0]

    @override
    def wrong_answer(self, data: Expression, answer: str, rng: random.Random) -> str:
        return "False" if answer == "True" else "True"


def simplify(tokens: list[str]) -> list[str]:
    """Do one layer of simplification: brackets around a value, else not, else and, else or."""
    for read in (_drop_brackets, _apply_not, _apply_and, _apply_or):
        result = read(tokens)
        if result != tokens:
            return result
    raise AssertionError(tokens)


def _drop_brackets(tokens: list[str]) -> list[str]:
    return re.sub(r"\( (True|False) \)", r"\1", " ".join(tokens)).split()


def _apply_not(tokens: list[str]) -> list[str]:
    text = re.sub(r"not (True|False)", lambda m: str(m[1] == "False"), " ".join(tokens))
    return text.split()


def _apply_and(tokens: list[str]) -> list[str]:
    # An operand to the right may still be `not ( ... )` or a bracket: the pattern asks for values.
    text = re.sub(
        r"(True|False) and (True|False)",
        lambda m: str(m[1] == m[2] == "True"),
        " ".join(tokens),
        count=1,
    )
    return text.split()


def _apply_or(tokens: list[str]) -> list[str]:
    text = re.sub(
        r"(?<!and )(True|False) or (True|False)(?! and)",
        lambda m: str("True" in m.groups()),
        " ".join(tokens),
        count=1,
    )
    return text.split()


def evaluate_boolean(tokens: list[str]) -> str:
    """Evaluate an expression."""
    while len(tokens) > 1:
        tokens = simplify(tokens)
    return tokens[0]


def _with_loose_and(text: str) -> str:
    """Evaluate an expression without brackets as if `or` bound tighter than `and`."""
    return str(all(evaluate_boolean(part.split()) == "True" for part in text.split(" and ")))


def _left_to_right(tokens: list[str]) -> str:
    value, operator, negate = False, "or", False
    for token in tokens:
        if token == "not":
            negate = not negate
        elif token in ("and", "or"):
            operator = token
        elif token in ("True", "False"):
            operand = (token == "True") != negate
            negate = False
            value = (value and operand) if operator == "and" else (value or operand)
    return str(value)


TEACHERS: tuple[Teacher[Any], ...] = (BooleanExpressions(),)
