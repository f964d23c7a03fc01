"""Teachers of statements that are true or false: liars, and statements about themselves."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read

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
        # $honest[name] is True for $good; a == b stands for "if and only if", a <= b for "if".
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
            # Each person is of the $good sort exactly when what the person says is true.
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
        "lambdas": "I test all cases: a statement is true exactly if its speaker is honest.",
        "evaluated": "Each statement becomes a Python expression, which I evaluate in every case.",
        "bits": "Each number below 2^n is one assignment; I keep the consistent one.",
    }
    checking = (
        ("In the world of the answer, each statement must be as true as its speaker.",),
        """
        $people = $who
        answer = "$answer"
        $honest = {p: f"{p} is a $good" in answer or f"{p} is an $good" in answer for p in $people}
        $says = [
        $texts
        ]
        print(all(eval(text, {}, $honest) == $honest[p] for p, text in zip($people, $says)))
        """,
    )
    slip = (
        ("I look for a world in which all statements hold.",),
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
            "who": list(names),
            "good": good,
            "bad": bad,
            "lambdas": "\n".join(lambdas),
            "texts": "\n".join(f'    "{text}",' for text in said),
            "plain": "\n".join(f"        {text}," for text in lowered),
            "unpacked": ", ".join(name.lower() for name in names),
            "listed": ", ".join(name.lower() for name in names),
        }

    @override
    def answer_values(self, data: Island, answer: str) -> Mapping[str, object]:
        return {"answer": answer.replace("\n", " ")}

    @override
    def openings(self, data: Island) -> Sequence[str]:
        names, good, bad, _ = data
        return (
            f"{len(names)} people, each {good} or {bad}, give {2 ** len(names)} cases.",
            f"Who is a {good} says the truth, so {names[0]}'s statement holds exactly if "
            f"{names[0]} is one.",
            f"{', '.join(names[:-1])} and {names[-1]} each make a statement.",
        )

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
            return f"{premise} <= {self._operand()}"
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
        "true": ("true", "yes", "holds", "t"),
        "false": ("false", "no", "fails", "f"),
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
        ("First I list what the statements would be for each number t of true ones.",),
        """
        for t in range(8):
            f = 7 - t
            first = [t >= $a, f <= $b, t == $c, f == $d]
            rest = [first[2] != first[3], t in (2, 3, 5, 7), f in (4, 6)]
            print(t, [int(x) for x in first + rest])
        """,
    )
    slip = (
        ("I count the numbers t of true statements that make Statement 1 and 2 true.",),
        """
        print(sum(t >= $a and 7 - t <= $b for t in range(8)))
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
            f"Seven statements speak about their own number of truths, the first of at least {a}.",
            f"Statement 3 wants {c} true ones and Statement 4 wants {d} false ones.",
        )

    @override
    def in_words(self, data: Limits, rng: random.Random) -> tuple[str, str]:
        a, b, c, d = data
        lines, good = [], []
        for t in range(8):
            f = 7 - t
            values = [t >= a, f <= b, t == c, f == d, (t == c) != (f == d), t in (2, 3, 5, 7)]
            values.append(f in (4, 6))
            lines.append(f"t = {t} makes {sum(values)} true")
            good += [t] if sum(values) == t else []
        words = (
            f"The number t of true statements decides them all: {', '.join(lines)}. "
            f"The two numbers agree {len(good)} times."
        )
        return words, str(len(good))

    @override
    def wrong_answer(self, data: Limits, answer: str, rng: random.Random) -> str:
        return str(int(answer) + 1)


TEACHERS: tuple[Teacher[Any], ...] = (KnightsKnaves(), SelfReference())
