"""Teacher of strings that rules change step by step."""

import dataclasses
import random
import re
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import list_rows, quote, read, require, script, step

_FEW_STEPS = 15
"""The most steps that are worked out in words."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """A condition and the change of the string that it leads to."""

    at: str
    """One of begins, ends, contains, longer, even."""
    text: str
    """The letters that are looked for; the number of letters for `longer`."""
    put: str = ""
    front: str = ""
    back: str = ""

    def apply(self, string: str) -> str | None:
        """Return the string after the rule, or None where its condition does not hold."""
        half = len(string) // 2
        match self.at:
            case "begins":
                held, changed = string.startswith(self.text), self.put + string[len(self.text) :]
            case "ends":
                held, changed = string.endswith(self.text), string[: -len(self.text)] + self.put
            case "contains":
                held, changed = self.text in string, string.replace(self.text, self.put, 1)
            case "longer":
                held, changed = len(string) > int(self.text), string[:half] + string[half + 1 :]
            case _:
                count = string.count(self.text)
                held, changed = count > 0 and count % 2 == 0, string
        return self.front + changed + self.back if held else None

    def condition(self, s: str) -> str:
        """Return the condition in Python, for a string variable `s`."""
        text = quote(self.text)
        return {
            "begins": f"{s}.startswith({text})",
            "ends": f"{s}.endswith({text})",
            "contains": f"{text} in {s}",
            "longer": f"len({s}) > {self.text}",
            "even": f"{s}.count({text}) > 0 and {s}.count({text}) % 2 == 0",
        }[self.at]

    def change(self, s: str) -> str:
        """Return the changed string in Python."""
        n = len(self.text)
        changed = {
            "begins": f"{quote(self.put)} + {s}[{n}:]" if self.put else f"{s}[{n}:]",
            "ends": f"{s}[:-{n}] + {quote(self.put)}" if self.put else f"{s}[:-{n}]",
            "contains": f"{s}.replace({quote(self.text)}, {quote(self.put)}, 1)",
            "longer": f"{s}[: len({s}) // 2] + {s}[len({s}) // 2 + 1 :]",
            "even": s,
        }[self.at]
        front = f"{quote(self.front)} + " if self.front else ""
        return f"{front}{changed}" + (f" + {quote(self.back)}" if self.back else "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rewriting:
    """The string at the start and the rules."""

    start: str
    rules: tuple[Rule, ...]

    def steps(self) -> list[tuple[int, str]]:
        """Return the number of the rule, from 1, and the new string of each step."""
        done: list[tuple[int, str]] = []
        string: str | None = self.start
        while string is not None and len(done) <= _MOST_STEPS:
            results = [(number, rule.apply(string or "")) for number, rule in self.numbered()]
            number, string = next(((n, t) for n, t in results if t is not None), (0, None))
            if string is not None:
                done.append((number, string))
        return done

    def numbered(self) -> list[tuple[int, Rule]]:
        """Return the rules with their numbers, from 1."""
        return list(enumerate(self.rules, start=1))


_MOST_STEPS = 1_000
_SENTENCE = re.compile(
    r'If the string (begins with|ends with|contains) "(\w+)", (?:replace .+? by "(\w+)"|remove .+?)'
    r'(?:, then append "(\w+)" to the string)?(?:, then put "(\w+)" in front of the string)?\.'
)
_LONGER = re.compile(r"If the string has more than (\d+) letters, remove its middle letter ")
_EVEN = re.compile(r'If the letter "(\w)" occurs an even number .* append "(\w+)" to')
_WHOLE = """
    s = $start
    while True:
        $chain
        else:
            break
    print(s)
"""
_TABLE = """
    $rules

    s = $start
    while True:
        change = next((change for holds, change in rules if holds(s)), None)
        if change is None:
            break
        s = change(s)
    print(s)
"""
_RECURSION = """
    def reduce(s):
        # The first rule whose condition holds is applied, then everything starts again.
        $chain
        return s


    print(reduce($start))
"""
_REWRITE_WORDS = {
    "if_chain": (
        "The {n} rules are tried from the top in every step, which is an if/elif chain in a loop; "
        "the loop ends when none holds.",
        "I write the {n} rules as one if/elif chain, so only the first that fits is applied, and "
        "repeat it from {start} on.",
    ),
    "rule_table": (
        "I put the {n} rules into a table of condition and change; each step takes the first "
        "condition that holds for the string.",
        "Each rule is a pair of functions, and next() finds the first of the {n} that applies. "
        "When there is none, the string stays.",
    ),
    "recursion": (
        "Applying a rule and starting again with rule 1 is a recursion on the changed string, "
        "beginning with {start}.",
        "A recursive function fits: whichever of the {n} rules holds first, reduce the changed "
        "string further; if none holds, return it.",
    ),
}


class StringDeletionAndModification(Teacher[Rewriting]):
    """Changes a string by rules until none applies."""

    task = "string_deletion_and_modification"
    forms = tuple(_REWRITE_WORDS)

    @override
    def parse(self, question: str) -> Rewriting:
        start = read(r"string at the start is (\w+)\?", question)[1]
        lines = re.findall(r"^\d+\. (If .+)$", question, re.MULTILINE)
        rules: list[Rule] = []
        for line in lines:
            if found := _SENTENCE.fullmatch(line):
                where, text, put, back, front = (part or "" for part in found.groups())
                at = where.split()[0]
                rules.append(Rule(at=at, text=text, put=put, back=back, front=front))
            elif found := _LONGER.match(line):
                rules.append(Rule(at="longer", text=found[1]))
            elif found := _EVEN.match(line):
                rules.append(Rule(at="even", text=found[1], back=found[2]))
        require(bool(lines) and len(rules) == len(lines), question)
        return Rewriting(start=start, rules=tuple(rules))

    @override
    def step(self, data: Rewriting, form: str, rng: random.Random) -> Step:
        s = rng.choice(("s", "text", "string", "word"))
        start = quote(data.start)
        if form == "rule_table":
            pairs = [
                f"(lambda s: {r.condition('s')}, lambda s: {r.change('s')})" for r in data.rules
            ]
            code = script(_TABLE, rules=list_rows("rules", pairs), start=start)
        elif form == "recursion":
            lines = [
                f"if {rule.condition('s')}:\n        return reduce({rule.change('s')})"
                for rule in data.rules
            ]
            code = script(_RECURSION, chain="\n    ".join(lines), start=start)
        else:
            code = script(_WHOLE, chain=_chain(data), start=start)
        if s != "s":
            code = re.sub(r"\bs\b(?!\")", s, code)
        texts = {"n": len(data.rules), "start": data.start}
        return step(rng, [text.format(**texts) for text in _REWRITE_WORDS[form]], code)

    @override
    def check(self, data: Rewriting, answer: str, rng: random.Random) -> Step:
        conditions = list_rows("conditions", [rule.condition("s") for rule in data.rules])
        code = f"s = {quote(answer)}\n{conditions}\nprint(conditions)\nprint(not any(conditions))"
        words = (
            f"At the end none of the {len(data.rules)} conditions may hold any more. I test them "
            f"on {answer}.",
            f"Is {answer} really final? Then no rule applies to it.",
        )
        return step(rng, words, code)

    @override
    def small_case(self, data: Rewriting, rng: random.Random) -> Step:
        chain = re.sub(r"^( *)s = ", r"\1rule, s = 0, ", _chain(data), flags=re.MULTILINE)
        for number, _ in data.numbered():
            chain = chain.replace("rule, s = 0, ", f"rule, s = {number}, ", 1)
        code = script(
            """
            s = $start
            for _ in range(3):
                $chain
                else:
                    break
                print("rule", rule, "gives", s)
            """,
            chain=chain,
            start=quote(data.start),
        )
        words = (
            f"I follow the first three steps from {data.start} and note which rule is used.",
            "To see that the rules are read as they are meant, I print the first three steps.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Rewriting, rng: random.Random) -> Step | None:
        # After a rule the next one is tried, although each step begins with the first.
        string, final = data.start, data.steps()[-1][1]
        before = ""
        for _ in range(_FEW_STEPS):
            before = string
            for rule in data.rules:
                string = rule.apply(string) or string
        if string != before or string == final:
            return None
        lines = [
            f"if {rule.condition('s')}:\n        s = {rule.change('s')}" for rule in data.rules
        ]
        code = script(
            """
            s = $start
            before = None
            while s != before:
                before = s
                $chain
            print(s)
            """,
            start=quote(data.start),
            chain="\n    ".join(lines),
        )
        words = (
            f"I apply the {len(data.rules)} rules in turn until the string does not change.",
            f"A loop over the rules, repeated from {data.start} on until nothing happens.",
        )
        return step(rng, words, code)

    @override
    def in_words(self, data: Rewriting, rng: random.Random) -> tuple[str, str] | None:
        steps = data.steps()
        if not 0 < len(steps) <= _FEW_STEPS:
            return None
        lines = [f"{place}. rule {n}: {text}" for place, (n, text) in enumerate(steps, start=1)]
        opening = rng.choice(
            (
                f"I start with {data.start} and always take the first rule that holds:",
                f"From {data.start}, with the first applicable rule each time:",
            )
        )
        last = "Now no condition holds, so this string remains."
        return "\n".join((opening, *lines, last)), steps[-1][1]

    @override
    def wrong_answer(self, data: Rewriting, answer: str, rng: random.Random) -> str | None:
        # The string before the last step.
        steps = [text for _, text in data.steps()]
        before = [data.start, *steps][-2]
        return before if before != answer else None


def _chain(data: Rewriting) -> str:
    """Return the rules as an if/elif chain, indented for the body of a loop."""
    lines = [f"if {rule.condition('s')}:\n        s = {rule.change('s')}" for rule in data.rules]
    return "\n    el".join(lines)


TEACHERS: tuple[Teacher[Any], ...] = (StringDeletionAndModification(),)
