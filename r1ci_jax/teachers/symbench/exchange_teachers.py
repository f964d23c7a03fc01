"""Teachers of blocks that methods combine, and of goods that a farmer exchanges."""

import dataclasses
import random
import re
from collections.abc import Iterator
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import join_words, pick, quote, read, require, script, step

Amounts = dict[str, int]

_OFTEN = {1: "once", 2: "twice"}
_FEW_USES = 16
"""The most uses of methods that are worked out in words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trade:
    """What there is at the start, in the order of the answer, and the methods."""

    start: Amounts
    methods: tuple[tuple[Amounts, Amounts], ...]
    """What each method takes away and what it adds."""

    def uses(self, *, repeated: bool) -> Iterator[tuple[int, int, Amounts]]:
        """Yield the number of a method, how often it is used in its turn, and what is there then.

        A method is used as often as possible in its turn (`repeated`) or once.
        """
        held = dict(self.start)
        while True:
            idle = True
            for number, (taken, given) in enumerate(self.methods, start=1):
                count = min(held[name] // amount for name, amount in taken.items())
                count = count if repeated else min(count, 1)
                for name in held:
                    held[name] += count * (given.get(name, 0) - taken.get(name, 0))
                if count:
                    idle = False
                    yield number, count, dict(held)
            if idle:
                return

    def end(self, *, repeated: bool) -> list[int]:
        """Return the amounts at the end."""
        turns = [held for _, _, held in self.uses(repeated=repeated)]
        return list((turns[-1] if turns else self.start).values())


_DICTS = """
    $given

    $changed = True
    while $changed:
        $changed = False
        for $taken, $added in $methods:
            $turn all($held[x] >= n for x, n in $taken.items()):
                for x, n in $taken.items():
                    $held[x] -= n
                for x, n in $added.items():
                    $held[x] += n
                $changed = True
    print($shown)
"""
_BULK = """
    $given

    while True:
        total_uses = 0
        for $taken, $added in $methods:
            # $uses_comment
            uses = $uses
            for x, n in $taken.items():
                $held[x] -= n * uses
            for x, n in $added.items():
                $held[x] += n * uses
            total_uses += uses
        if total_uses == 0:
            break
    print($shown)
"""
_VECTORS = """
    import numpy as np

    $given
    names = list($held)
    need = np.array([[taken.get(x, 0) for x in names] for taken, _ in $methods])
    gain = np.array([[added.get(x, 0) for x in names] for _, added in $methods])
    amounts = np.array([$held[x] for x in names])

    $changed = True
    while $changed:
        before = amounts
        for lost, won in zip(need, gain):
            $turn (amounts >= lost).all():
                amounts = amounts - lost + won
        $changed = (amounts != before).any()
    print($printed)
"""
_IDLE = """
    from itertools import cycle

    $given

    idle = 0  # methods in a row that could not be used
    for $taken, $added in cycle($methods):
        idle += 1
        $turn all($held[x] >= $taken[x] for x in $taken):
            for x in $taken.keys() | $added.keys():
                $held[x] += $added.get(x, 0) - $taken.get(x, 0)
            idle = 0
        if idle >= len($methods):
            break
    print($shown)
"""
_SCRIPTS = {"dictionaries": _DICTS, "bulk": _BULK, "vectors": _VECTORS, "idle_count": _IDLE}
_WORDS = {
    "dictionaries": (
        "This is a simulation with {start}: go through the {n} methods, {rule}, and stop after a "
        "round without any use.",
        "I keep the amounts in a dictionary, starting with {start}, and repeat rounds of the {n} "
        "methods as long as something changes; in its turn a method is used {often}.",
    ),
    "bulk": (
        "How often a method can be used follows from what it needs by whole-number division; with "
        "{n} methods, {rule}, I repeat rounds until no use is possible.",
        "In its turn a method is used {often}; the scarcest part of what it needs decides how "
        "many uses there are. I start with {start} and count uses round by round.",
    ),
    "vectors": (
        "Each of the {n} methods is a pair of vectors, what it needs and what it adds; from "
        "{start} on I apply them in order, {often} per turn.",
        "With numpy vectors a use is a subtraction and an addition. I repeat the {n} methods until "
        "a whole round leaves the amounts unchanged.",
    ),
    "idle_count": (
        "I cycle through the {n} methods, {rule}, and count how many in a row were idle; when all "
        "{n} were, it is over.",
        "Starting with {start}, the methods take turns, each used {often}; the end is reached when "
        "{n} turns in a row change nothing.",
    ),
}


class _Exchange(Teacher[Trade]):
    """Follows methods until none can be used."""

    forms = tuple(_SCRIPTS)
    repeated: bool
    """Whether a method is used as often as possible in its turn, or once."""
    separator: str
    """What stands between the numbers of the answer."""
    unit: str
    noun: str
    article: str

    def _parts(self, data: Trade, rng: random.Random) -> dict[str, str]:
        names = pick(
            rng,
            held=("held", "stock", "inventory") if rng.random() < 0.5 else ("have", "supply"),
            methods=("methods", "rules", "exchanges"),
            taken=("taken", "needs", "paid"),
            added=("added", "gives", "received"),
            changed=("changed", "active", "progress"),
        )
        lines = "".join(
            f"    ({_literal(taken)}, {_literal(added)}),\n" for taken, added in data.methods
        )
        held = names["held"]
        uses = f"min({held}[x] // n for x, n in {names['taken']}.items())"
        once = f"all({held}[x] >= n for x, n in {names['taken']}.items())"
        return names | {
            "given": f"{held} = {_literal(data.start)}\n{names['methods']} = [\n{lines}]",
            "turn": "while" if self.repeated else "if",
            "uses": uses if self.repeated else f"int({once})",
            "uses_comment": "as often as the scarcest part allows"
            if self.repeated
            else "once if everything is there, else not at all",
            "shown": self._show(f"{held}.values()"),
            "printed": "*amounts" if self.separator == " " else "amounts.tolist()",
        }

    def _show(self, values: str) -> str:
        return f"*{values}" if self.separator == " " else f"list({values})"

    @override
    def step(self, data: Trade, form: str, rng: random.Random) -> Step:
        code = script(_SCRIPTS[form], **self._parts(data, rng))
        often = "as often as possible" if self.repeated else "once at most"
        start = join_words([f"{n} {self.unit}{name}" for name, n in data.start.items() if n])
        texts = {
            "n": len(data.methods),
            "start": start,
            "often": often,
            "rule": f"each used {often} in its turn",
        }
        return self._in_terms(step(rng, [t.format(**texts) for t in _WORDS[form]], code))

    def _in_terms(self, step: Step) -> Step:
        """Speak of exchanges where the question does."""
        return Step(
            words=step.words.replace("method", self.noun),
            code=step.code.replace("method", self.noun),
        )

    def _values(self, answer: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", answer)]

    def _write(self, values: list[int]) -> str:
        if self.separator == " ":
            return " ".join(map(str, values))
        return str(values)

    @override
    def check(self, data: Trade, answer: str, rng: random.Random) -> Step:
        end = dict(zip(data.start, self._values(answer), strict=True))
        parts = self._parts(data, rng)
        code = script(
            """
            $given
            end = $end

            usable = [all(end[x] >= n for x, n in taken.items()) for taken, _ in $methods]
            print("usable at the end:", usable)

            # Replay with a log of single uses.
            log = []
            while True:
                before = len(log)
                for number, (taken, added) in enumerate($methods, start=1):
                    $turn all($held[x] - n >= 0 for x, n in taken.items()):
                        $held = {x: $held[x] - taken.get(x, 0) + added.get(x, 0) for x in $held}
                        log.append(number)
                if len(log) == before:
                    break
            print("uses:", *log)
            print(not any(usable) and $held == end)
            """,
            end=_literal(end),
            **parts,
        )
        words = (
            f"At the end none of the {len(data.methods)} methods may be usable, and a replay with "
            "a log of the uses has to lead there.",
            "I test that my result is final and replay the uses one by one to compare.",
        )
        return self._in_terms(step(rng, words, code))

    @override
    def small_case(self, data: Trade, rng: random.Random) -> Step:
        parts = self._parts(data, rng)
        code = script(
            """
            $given

            # The first round only
            for number, ($taken, $added) in enumerate($methods, start=1):
                uses = $uses
                for x in $held:
                    $held[x] += uses * ($added.get(x, 0) - $taken.get(x, 0))
                print("method", number, "used", uses, "times:", *$held.values())
            """,
            **parts,
        )
        words = (
            f"I do the first round of the {len(data.methods)} methods alone and look at the "
            "amounts after each.",
            "First one round with all amounts printed, to see that each method does what it "
            "should.",
        )
        return self._in_terms(step(rng, words, code))

    @override
    def first_attempt(self, data: Trade, rng: random.Random) -> Step | None:
        # A method is used once where it has to be repeated, or the other way round.
        if data.end(repeated=True) == data.end(repeated=False):
            return None
        parts = self._parts(data, rng) | {"turn": "if" if self.repeated else "while"}
        words = (
            f"I go through the {len(data.methods)} methods round by round until nothing changes.",
            "A simulation with a dictionary of amounts, in rounds over all methods, will do.",
        )
        return self._in_terms(step(rng, words, script(_DICTS, **parts)))

    @override
    def in_words(self, data: Trade, rng: random.Random) -> tuple[str, str] | None:
        turns = list(data.uses(repeated=self.repeated))
        if not 0 < len(turns) <= _FEW_USES:
            return None
        names = [name for name in data.start if data.start[name] or any(h[name] for *_, h in turns)]
        lines: list[str] = []
        for number, count, held in turns:
            often = "" if not self.repeated else f", {_OFTEN.get(count, f'{count} times')}"
            amounts = ", ".join(f"{held[name]} {name}" for name in names)
            lines.append(f"{self.noun.capitalize()} {number}{often}: {amounts}")
        opening = rng.choice(
            (
                f"I follow the {self.noun}s in order and note what is there after each use:",
                f"Going round through the {self.noun}s, with what is there after each:",
            )
        )
        answer = self._write(list(turns[-1][2].values()))
        last = f"After that no {self.noun} can be used, so it ends with {answer}."
        return "\n".join((opening, *lines, last)), answer

    @override
    def wrong_answer(self, data: Trade, answer: str, rng: random.Random) -> str | None:
        wrong = self._write(data.end(repeated=not self.repeated))
        return wrong if self._values(wrong) != self._values(answer) else None


def _literal(amounts: Amounts) -> str:
    return f"{{{', '.join(f'{quote(name)}: {n}' for name, n in amounts.items())}}}"


def _sides(lines: list[tuple[str, str]]) -> tuple[tuple[Amounts, Amounts], ...]:
    return tuple((_amounts(left), _amounts(right)) for left, right in lines)


def _amounts(text: str) -> Amounts:
    return {
        name: int(n) for n, name in re.findall(r"(\d+) (?:units of )?([\[{(]?[A-Z][\]})]?)", text)
    }


class StringSynthesis(_Exchange):
    """Combines blocks, each method as often as possible."""

    task = "string_synthesis"
    repeated = True
    separator = " "
    unit = ""
    noun = "method"
    article = "a"

    @override
    def parse(self, question: str) -> Trade:
        kinds = read(r"nine kinds:\n(.+?)\n", question)[1].split()
        methods = re.findall(r"^\d+\. (.+) -> (.+)$", question, re.MULTILINE)
        held = _amounts(read(r"At the start you have (.+?), and no other", question)[1])
        require(bool(methods) and set(held) <= set(kinds), question)
        return Trade(start={kind: held.get(kind, 0) for kind in kinds}, methods=_sides(methods))


class SynthesisDecomposition(_Exchange):
    """Exchanges goods, each method once in its turn."""

    task = "synthesis_decomposition"
    repeated = False
    separator = ", "
    unit = "units of "
    noun = "exchange"
    article = "an"

    @override
    def parse(self, question: str) -> Trade:
        goods = read(r"whole numbers in the order \[([A-Z, ]+)\]", question)[1].split(", ")
        methods = re.findall(r"^\d+\. pay (.+), receive (.+)$", question, re.MULTILINE)
        held = _amounts(read(r"At the start there are (.+?), and nothing of", question)[1])
        require(bool(methods) and set(held) <= set(goods), question)
        return Trade(start={good: held.get(good, 0) for good in goods}, methods=_sides(methods))


TEACHERS: tuple[Teacher[Any], ...] = (StringSynthesis(), SynthesisDecomposition())
