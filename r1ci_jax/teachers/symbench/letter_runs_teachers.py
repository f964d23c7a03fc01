"""Teacher of the points that runs of letters earn."""

import dataclasses
import itertools
import random
import re
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import join_words, pick, quote, read, require, script, step

_FEW_RUNS = 24
"""The most runs that are worked out in words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runs:
    """A string and the points of its runs."""

    text: str
    rules: dict[str, tuple[int, int]]
    """The shortest run that counts and its points, for each letter."""

    def found(self) -> list[tuple[str, int, int]]:
        """Return letter, length and points of each run."""
        runs = [(letter, len([*group])) for letter, group in itertools.groupby(self.text)]
        return [
            (letter, n, self.rules[letter][1] if n >= self.rules[letter][0] else 0)
            for letter, n in runs
        ]


_RUN_SCRIPTS = {
    "groupby": """
        from itertools import groupby

        $given

        $total = 0
        for letter, group in groupby($text):
            shortest, points = $rules[letter]
            if len(list(group)) >= shortest:
                $total += points
        print($total)
        """,
    "regex": """
        import re

        $given

        $total = 0
        for letter, (shortest, points) in $rules.items():
            # The pattern takes a whole run at once, so every run counts once.
            runs = re.findall(f"{letter}{{{shortest},}}", $text)
            $total += points * len(runs)
        print($total)
        """,
    "scan": """
        $given

        $total = 0
        start = 0
        while start < len($text):
            end = start
            while end < len($text) and $text[end] == $text[start]:
                end += 1
            shortest, points = $rules[$text[start]]
            if end - start >= shortest:
                $total += points
            start = end  # the next run begins here
        print($total)
        """,
    "running_length": """
        $given

        # A run earns its points at the moment when it reaches the shortest length.
        $total, length, previous = 0, 0, ""
        for letter in $text:
            length = length + 1 if letter == previous else 1
            previous = letter
            shortest, points = $rules[letter]
            if length == shortest:
                $total += points
        print($total)
        """,
}
_RUN_WORDS = {
    "groupby": (
        "itertools.groupby cuts the string into its maximal runs; {rules}.",
        "I split the string into runs with groupby and add the points of those that are long "
        "enough: {rules}.",
    ),
    "regex": (
        "A greedy pattern such as {example} takes a whole run, so I count matches per letter, "
        "where {rules}.",
        "For each of the {n} letters a regular expression finds the runs that are long enough.",
    ),
    "scan": (
        "I walk through the string with two positions, the start and the end of a run, and give "
        "points by length: {rules}.",
        "One pass is enough: find where a run ends, compare its length with the rule of its "
        "letter, and go on behind it.",
    ),
    "running_length": (
        "A run earns once however long it gets, so I count the points when the current run reaches "
        "the length that its letter needs: {rules}.",
        "I keep the length of the current run; the points are due exactly when it becomes long "
        "enough for one of the {n} rules.",
    ),
}


class StatisticalCounting(Teacher[Runs]):
    """Adds up the points of runs."""

    task = "statistical_counting"
    forms = tuple(_RUN_SCRIPTS)

    @override
    def parse(self, question: str) -> Runs:
        rules = re.findall(r"^- a run of (\d+) or more ([A-Z]): (\d+) points?$", question, re.M)
        text = read(r"earn in all\?\n\n([A-Z]+)\n", question)[1]
        points = {letter: (int(least), int(earned)) for least, letter, earned in rules}
        require(set(text) <= set(points), question)
        return Runs(text=text, rules=points)

    def _parts(self, data: Runs, rng: random.Random) -> dict[str, str]:
        names = pick(
            rng,
            text=("text", "string", "letters"),
            rules=("rules", "table", "scoring"),
            total=("total", "score", "earned"),
        )
        rules = ", ".join(f"{quote(letter)}: {rule}" for letter, rule in data.rules.items())
        given = (
            f"{names['text']} = {quote(data.text)}\n"
            f"{names['rules']} = {{{rules}}}  # letter: (shortest run, points)"
        )
        return names | {"given": given}

    @override
    def step(self, data: Runs, form: str, rng: random.Random) -> Step:
        code = script(_RUN_SCRIPTS[form], **self._parts(data, rng))
        rules = join_words(
            [f"{n} or more {letter} earn {points}" for letter, (n, points) in data.rules.items()]
        )
        letter, (shortest, _) = next(iter(data.rules.items()))
        texts = {"rules": rules, "n": len(data.rules), "example": f"{letter}{{{shortest},}}"}
        words = [text.format(**texts) for text in _RUN_WORDS[form]]
        return step(rng, words, code)

    @override
    def check(self, data: Runs, answer: str, rng: random.Random) -> Step:
        code = script(
            """
            $given
            claimed = $answer

            # Count the ends of runs: the letter changes there, and enough equal ones stand before.
            counts = dict.fromkeys($rules, 0)
            for end in range(1, len($text) + 1):
                letter = $text[end - 1]
                shortest = $rules[letter][0]
                if $text[end : end + 1] != letter and $text[:end].endswith(letter * shortest):
                    counts[letter] += 1
            print(counts)
            print(sum(count * $rules[letter][1] for letter, count in counts.items()) == claimed)
            """,
            answer=answer,
            **self._parts(data, rng),
        )
        words = (
            f"I count again in another way, by the ends of the runs of each of the "
            f"{len(data.rules)} letters, and compare.",
            "As a check I count the scoring runs per letter from their last letters.",
        )
        return step(rng, words, code)

    @override
    def small_case(self, data: Runs, rng: random.Random) -> Step:
        parts = self._parts(data, rng)
        code = script(
            """
            from itertools import groupby

            $given

            print(*(letter + str(len(list(group))) for letter, group in groupby($text)))
            print("needed:", *(f"{letter}{rule[0]}" for letter, rule in $rules.items()))
            """,
            **parts,
        )
        words = (
            "I look at the runs first, written as letter and length, beside the lengths that "
            f"the {len(data.rules)} rules need.",
            f"Before adding up points I cut {data.text[:5]}... into runs.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Runs, rng: random.Random) -> Step | None:
        # Long runs are counted several times.
        pieces = [(data.text.count(letter * n), p) for letter, (n, p) in data.rules.items()]
        if sum(n * points for n, points in pieces) == sum(run[2] for run in data.found()):
            return None
        code = script(
            """
            $given

            $total = 0
            for letter, (shortest, points) in $rules.items():
                $total += points * $text.count(letter * shortest)
            print($total)
            """,
            **self._parts(data, rng),
        )
        words = (
            "str.count finds the pieces of the shortest length that counts; each earns the points "
            f"of its letter ({len(data.rules)} letters).",
            "I count, for each letter, how often its shortest scoring piece occurs.",
        )
        return step(rng, words, code)

    @override
    def in_words(self, data: Runs, rng: random.Random) -> tuple[str, str] | None:
        runs = data.found()
        if len(runs) > _FEW_RUNS:
            return None
        cut = " ".join(letter * n for letter, n, _ in runs)
        earning = [(letter * n, points) for letter, n, points in runs if points]
        if not earning:
            return None
        lines = [f"{run} earns {points}." for run, points in earning]
        total = " + ".join(str(points) for _, points in earning)
        answer = str(sum(points for _, points in earning))
        last = f"Together: {total} = {answer}." if len(earning) > 1 else f"That makes {answer}."
        rules = ", ".join(f"{letter} from {n}" for letter, (n, _) in data.rules.items())
        opening = rng.choice(("The runs of the string are:", "Cut into runs, the string is:"))
        return f"{opening} {cut}.\nLong enough ({rules} on) are:\n" + "\n".join(
            (*lines, last)
        ), answer

    @override
    def wrong_answer(self, data: Runs, answer: str, rng: random.Random) -> str:
        # One run of the last rule is forgotten.
        points = [earned for _, _, earned in data.found() if earned]
        return str(int(answer) - rng.choice(points))


TEACHERS: tuple[Teacher[Any], ...] = (StatisticalCounting(),)
