"""Teachers of statements that are true or false: liars, and statements about themselves."""

import ast
import itertools
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    TemplateTeacher,
    count_noun,
    join_words,
    list_literal,
    read,
    require,
    wrap_items,
)

Island = tuple[tuple[str, ...], str, str, tuple[str, ...]]
"""Names, the words for those who tell the truth and who lie, and what each says, as code."""


class KnightsKnaves(TemplateTeacher[Island]):
    """Finds who tells the truth and who lies."""

    task = "rg_knights_knaves"
    forms = ("lambdas", "evaluated", "bits")
    names: ClassVar = {
        "people": ("people", "islanders", "persons"),
        "says": ("says", "claims", "statements"),
        "honest": ("honest", "truthful", "h"),
    }
    scripts: ClassVar = {
        "lambdas": """
        from itertools import product

        $people = $who
        # True stands for $good: "if and only if" is ==, "if a then b" is "not a or b".
        $says = {
        $lambdas
        }
        for values in product([True, False], repeat=len($people)):
            $honest = dict(zip($people, values))
            if all($says[p]($honest) == $honest[p] for p in $people):
                print(", ".join(f"{p} is a {'$good' if $honest[p] else '$bad'}" for p in $people))
        """,
        "evaluated": """
        from itertools import product

        $people = $who
        $says = [
        $texts
        ]
        for values in product([True, False], repeat=len($people)):
            $honest = dict(zip($people, values))
            if all(eval(text, {}, $honest) == v for text, v in zip($says, values)):
                print(", ".join(f"{p} is a {'$good' if v else '$bad'}" for p, v in $honest.items()))
        """,
        "bits": """
        $people = $who
        n = len($people)
        for bits in range(2**n):
            $unpacked = (bool(bits >> i & 1) for i in range(n))
            # A statement is true exactly when its speaker is $one.
            $says = [
        $plain
            ]
            $honest = [$listed]
            if $says == $honest:
                for p, v in zip($people, $honest):
                    print(p, "is a", "$good" if v else "$bad")
        """,
    }
    methods: ClassVar = {
        "lambdas": "I test all cases: a statement is true exactly when its speaker is $one.",
        "evaluated": "Each statement becomes a Python expression, which I evaluate in every case.",
        "bits": "Each number below $cases is one assignment; I keep the consistent one.",
    }
    checking = (
        (
            "With the answer's values, each statement must be as true as its speaker.",
            "I put the answer into the $people_count statements and compare speaker by speaker.",
            "Whoever is $one must have said something true, and the others something false.",
        ),
        """
        # True stands for $good, False for $bad.
        $honest = $answer
        $says = [
        $texts
        ]
        print(all(eval(text, {}, $honest) == $honest[p] for p, text in zip($honest, $says)))
        """,
    )
    slip = (
        (
            "I look for the case in which all $people_count statements hold.",
            "All $cases cases are tested for whether the statements are true together.",
            "The statements become conditions, and I search for values that satisfy them all.",
        ),
        """
        from itertools import product

        $people = $who
        $says = [
        $texts
        ]
        for values in product([True, False], repeat=len($people)):
            $honest = dict(zip($people, values))
            if all(eval(text, {}, $honest) for text in $says):
                print(", ".join(f"{p} is a {'$good' if v else '$bad'}" for p, v in $honest.items()))
        """,
    )

    @override
    def parse(self, question: str) -> Island:
        kinds = read(r"So who is an? (\w+) and who is an? (\w+)\?", question)
        body = read(r"You meet \d+ inhabitants: (.*?)\. (.*) So who is", question)
        names = tuple(re.findall(r"[A-Z]\w*", body[1]))
        quoted = re.findall(r'"([^"]+?)[.,]?"|(?:that|:) ([^".]+)\.', body[2])
        if len(quoted) != len(names):
            raise UnreadableQuestionError(body[2])
        said = tuple(_Logic(a or b, kinds[1]).whole() for a, b in quoted)
        require(set(re.findall(r"[A-Z]\w*", " ".join(said))) <= set(names), body[2])
        return names, kinds[1], kinds[2], said

    @override
    def values(self, data: Island, rng: random.Random) -> Mapping[str, object]:
        names, good, bad, said = data
        honest = "who"
        lambdas = []
        for name, text in zip(names, said, strict=True):
            body = re.sub(r"\b([A-Z]\w*)\b", rf'{honest}["\1"]', text)
            lambdas.append(f'    "{name}": lambda {honest}: {body},')
        lowered = [re.sub(r"\b[A-Z]\w*\b", lambda m: m[0].lower(), text) for text in said]
        return {
            "who": list_literal(names),
            "good": good,
            "bad": bad,
            "one": _with_article(good),
            "cases": 2 ** len(names),
            "people_count": len(names),
            "lambdas": "\n".join(lambdas),
            "texts": "\n".join(f'    "{text}",' for text in said),
            "plain": "\n".join(f"        {text}," for text in lowered),
            "unpacked": ", ".join(name.lower() for name in names),
            "listed": ", ".join(name.lower() for name in names),
        }

    @override
    def answer_values(self, data: Island, answer: str) -> Mapping[str, object]:
        values = {name: re.search(rf"{name} is an? {data[1]}\b", answer) for name in data[0]}
        return {"answer": wrap_items([f'"{k}": {bool(v)}' for k, v in values.items()], "{", "}")}

    @override
    def openings(self, data: Island) -> Sequence[str]:
        names, good, bad, _ = data
        return (
            f"Each of {len(names)} people is {_with_article(good)} or {_with_article(bad)}, which "
            f"makes {2 ** len(names)} cases.",
            f"{_with_article(good).capitalize()} tells the truth, so {names[0]}'s statement holds "
            f"exactly if {names[0]} is one.",
            f"{join_words(names)} each make a statement.",
        )

    @override
    def first_attempt(self, data: Island, rng: random.Random) -> Step | None:
        names, _, _, said = data
        cases = itertools.product([True, False], repeat=len(names))
        worlds = [dict(zip(names, values, strict=True)) for values in cases]
        found = [world for world in worlds if all(_is_true(text, world) for text in said)]
        # Where all are honest and all they say holds, it is the solution.
        wrong = found and not (len(found) == 1 and all(found[0].values()))
        return super().first_attempt(data, rng) if wrong else None

    @override
    def answer(self, data: Island, printed: str) -> str:
        parts = printed.strip().replace("\n", ", ").split(", ")
        return ", ".join(parts[:-1]) + ", and " + parts[-1] if len(parts) > 1 else parts[0]

    @override
    def wrong_answer(self, data: Island, answer: str, rng: random.Random) -> str:
        name = rng.choice(data[0])
        old = data[1] if re.search(rf"{name} is an? {data[1]}\b", answer) else data[2]
        new = data[2] if old == data[1] else data[1]
        return re.sub(rf"({name} is an? ){old}\b", rf"\g<1>{new}", answer)


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _is_true(expression: str, world: Mapping[str, bool]) -> bool:
    """Evaluate an expression of names, `not`, `and`, `or` and `==`."""

    def value(node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name):
                return world[name]
            case ast.UnaryOp(operand=operand):
                return not value(operand)
            case ast.BoolOp(op=ast.And(), values=parts):
                return all(map(value, parts))
            case ast.BoolOp(values=parts):
                return any(map(value, parts))
            case ast.Compare(left=left, comparators=[right]):
                return value(left) == value(right)
        raise UnreadableQuestionError(expression)

    return value(ast.parse(expression, mode="eval").body)


def _negated(operand: str) -> str:
    found = re.fullmatch(r"\(not (\w+)\)", operand)
    return found[1] if found else f"not {operand}"


class _Logic:
    """Translates a statement of the puzzle into a Python expression of names."""

    def __init__(self, text: str, good: str) -> None:
        self._text = text.strip()
        self._good = good

    def whole(self) -> str:
        """Return the expression of the whole statement."""
        expression = self._compound()
        if self._text:
            raise UnreadableQuestionError(self._text)
        return expression

    def _take(self, pattern: str) -> re.Match[str] | None:
        found = re.match(pattern, self._text, re.IGNORECASE)
        if found:
            self._text = self._text[found.end() :]
        return found

    def _operand(self) -> str:
        if self._take(r"\("):
            inner = self._compound()
            self._take(r"\)")
            return f"({inner})"
        found = self._take(r"(\w+) is an? (\w+)")
        if found is None:
            raise UnreadableQuestionError(self._text)
        return found[1] if found[2] == self._good else f"(not {found[1]})"

    def _compound(self) -> str:
        if self._take(r"it is not the case that "):
            return f"not {self._operand()}"
        if self._take(r"if "):
            premise = self._operand()
            self._take(r",? then ")
            return f"{_negated(premise)} or {self._operand()}"
        first = self._operand()
        if self._take(r" if and only if "):
            return f"{first} == {self._operand()}"
        parts = [first]
        while link := self._take(r" (and|or) "):
            parts += [link[1], self._operand()]
        text = " ".join(parts)
        return text[1:-1] if len(parts) == 1 and text.startswith("(not ") else text


Limits = tuple[int, int, int, int]


class SelfReference(TemplateTeacher[Limits]):
    """Counts the consistent assignments of seven statements about each other."""

    task = "rg_self_reference"
    forms = ("product", "by_count", "bits")
    names: ClassVar = {
        "s": ("s", "v", "truth", "values", "told", "case"),
        "count": ("count", "solutions", "total", "found", "n", "worlds"),
        "true false": ("true false", "yes no", "hold fail", "t f", "right wrong"),
    }
    scripts: ClassVar = {
        "product": """
        from itertools import product

        primes, composites = {2, 3, 5, 7}, {4, 6}
        $count = 0
        for $s in product([True, False], repeat=7):
            $true, $false = $s.count(True), $s.count(False)
            says = (
                $true >= $a,
                $false <= $b,
                $true == $c,
                $false == $d,
                $s[2] != $s[3],
                $true in primes,
                $false in composites,
            )
            $count += says == $s
        print($count)
        """,
        "by_count": """
        def is_prime(n):
            return n > 1 and all(n % k for k in range(2, n))

        $count = 0
        # The number of true statements decides each value, and must come out again.
        for $true in range(8):
            $false = 7 - $true
            $s = [$true >= $a, $false <= $b, $true == $c, $false == $d]
            $s.append($s[2] != $s[3])
            $s += [is_prime($true), $false > 1 and not is_prime($false)]
            $count += sum($s) == $true
        print($count)
        """,
        "bits": """
        from sympy import isprime

        $count = 0
        for bits in range(2**7):
            $s = [bool(bits >> i & 1) for i in range(7)]
            $true = sum($s)
            $false = 7 - $true
            says = [$true >= $a, $false <= $b, $true == $c, $false == $d]
            says += [$s[2] ^ $s[3], isprime($true), $false > 1 and not isprime($false)]
            if says == $s:
                $count += 1
        print($count)
        """,
    }
    methods: ClassVar = {
        "product": "I try all 128 assignments; what each statement says must equal its value.",
        "by_count": "Only the number of true statements matters, so eight cases suffice.",
        "bits": "I run through 128 bit patterns and keep those that agree with what is said.",
    }
    exploring = (
        (
            "First I list what the statements would be for each number t of true ones.",
            "If t statements are true, all seven are determined; I print them for t = 0 to 7.",
            "A table of the seven statements for each number t of true ones comes first.",
        ),
        """
        for t in range(8):
            f = 7 - t
            first = [t >= $a, f <= $b, t == $c, f == $d]
            rest = [first[2] != first[3], t in (2, 3, 5, 7), f in (4, 6)]
            print(t, [int(x) for x in first + rest])
        """,
    )
    slip = (
        (
            "Every number of false statements that is not prime counts as composite.",
            "The number t of true statements decides all seven; composite means not prime.",
            "For t true statements, 7 - t is composite unless it is prime.",
        ),
        """
        primes = {2, 3, 5, 7}
        $count = 0
        for $true in range(8):
            $false = 7 - $true
            $s = [$true >= $a, $false <= $b, $true == $c, $false == $d]
            $s += [$s[2] != $s[3], $true in primes, $false not in primes]
            $count += sum($s) == $true
        print($count)
        """,
    )
    loose_slip = (
        (
            "Statement 5 holds if Statement 3 or Statement 4 does; I count the t that fit.",
            "With t true statements, the fifth is an or of the third and the fourth.",
            'Each number t of true statements is tested, with "or" for Statement 5.',
        ),
        """
        primes, composites = {2, 3, 5, 7}, {4, 6}
        $count = 0
        for $true in range(8):
            $false = 7 - $true
            $s = [$true >= $a, $false <= $b, $true == $c, $false == $d]
            $s += [$s[2] or $s[3], $true in primes, $false in composites]
            $count += sum($s) == $true
        print($count)
        """,
    )

    @override
    def parse(self, question: str) -> Limits:
        found = read(
            r"'At least (\d) of these 7 statements are true.*?'At most (\d) of these 7 statements "
            r"are false.*?'Exactly (\d) of these 7 statements are true.*?'Exactly (\d) of these 7 "
            r"statements are false",
            question,
        )
        return int(found[1]), int(found[2]), int(found[3]), int(found[4])

    @override
    def values(self, data: Limits, rng: random.Random) -> Mapping[str, object]:
        return dict(zip("abcd", data, strict=True))

    @override
    def openings(self, data: Limits) -> Sequence[str]:
        a, b, c, d = data
        return (
            f"The first four statements have the limits {a}, {b}, {c} and {d}.",
            f"Seven statements speak about how many of them are true, the first of at least {a}.",
            f"Statement 3 wants {c} true ones and Statement 4 wants {d} false ones.",
        )

    @override
    def first_attempt(self, data: Limits, rng: random.Random) -> Step | None:
        right = len(_agreeing(data))
        loose = [_agreeing(data, composites=(0, 1, 4, 6)), _agreeing(data, both=True)]
        slips = zip((self.slip, self.loose_slip), loose, strict=True)
        wrong = [slip for slip, agreeing in slips if slip and len(agreeing) != right]
        return self._fill(data, rng.choice(wrong), {}, rng) if wrong else None

    @override
    def in_words(self, data: Limits, rng: random.Random) -> tuple[str, str]:
        good = _agreeing(data)
        lines = [f"t = {t} makes {_true_ones(data, t)} true" for t in range(8)]
        found = f"The two agree for t = {join_words(good)}" if good else "The two never agree"
        words = (
            f"The number t of true statements decides them all: {', '.join(lines)}. "
            f"{found}, so there {'is' if len(good) == 1 else 'are'} "
            f"{count_noun(len(good), 'solution')}."
        )
        return words, str(len(good))

    @override
    def wrong_answer(self, data: Limits, answer: str, rng: random.Random) -> str:
        return str(int(answer) + 1)


def _true_ones(
    limits: Limits, t: int, composites: Sequence[int] = (4, 6), *, both: bool = False
) -> int:
    """Return how many statements hold if t are true; `both` reads the fifth as a plain or."""
    a, b, c, d = limits
    f = 7 - t
    third, fourth = t == c, f == d
    fifth = third or fourth if both else third != fourth
    return sum([t >= a, f <= b, third, fourth, fifth, t in (2, 3, 5, 7), f in composites])


def _agreeing(
    limits: Limits, composites: Sequence[int] = (4, 6), *, both: bool = False
) -> list[int]:
    """Return the numbers of true statements that come out again."""
    return [t for t in range(8) if _true_ones(limits, t, composites, both=both) == t]


TEACHERS: tuple[Teacher[Any], ...] = (KnightsKnaves(), SelfReference())
