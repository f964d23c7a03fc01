"""Rewrite a string by a list of rules until none applies.

The released wording ("cycle through the operations") does not state whether the next operation
after one that applied is the first of the list or the next one. All released golds restart at the
first, and so does the scorer; our own questions state this.
"""

import dataclasses
import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {}
RELEASED_REMARKS: Final[dict[str, int]] = {
    "going on with the operation below, as the wording also allows, ends in another string": 16,
}
"""Flaws of released questions whose golds may nevertheless score."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: its position, the text that it matches, and its change."""

    at: str
    """One of start, end, anywhere, inside (not at the first letter), longer, even."""
    text: str = ""
    """The letters to match; for `even`, the letter that is counted."""
    put: str = ""
    """The letters that replace them."""
    front: str = ""
    back: str = ""
    """The texts that are then added before and after the string."""
    cut: bool = False
    """True if the last letter is then removed."""
    limit: int = 0
    """The length that must be exceeded, for `longer`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    letters: str
    rules: int
    length: int
    steps: tuple[int, int]
    """Fewest and most rules applied until the end."""


_LEVELS: Final = {
    1: _Level(letters="abc", rules=3, length=8, steps=(3, 5)),
    2: _Level(letters="abc", rules=4, length=12, steps=(6, 9)),
    3: _Level(letters="abc", rules=5, length=16, steps=(10, 14)),
    4: _Level(letters="abcd", rules=6, length=20, steps=(15, 20)),
    5: _Level(letters="abcd", rules=8, length=26, steps=(21, 32)),
}
_MIN_FINAL: Final = 4
_MAX_STEPS: Final = 1_000
"""A limit that no question reaches; it stops released rules that never end."""
_KINDS: Final = ("start",) * 3 + ("end",) * 3 + ("anywhere",) * 5 + ("longer", "even")

_PLACES: Final = {
    "start": "the string begins with",
    "end": "the string ends with",
    "anywhere": "the string contains",
}
_RELEASED_RULE = re.compile(r"^\d+\. (If the string .*)$", re.MULTILINE)
_RELEASED_STRING = re.compile(r'For the string "([a-z]+)", what is')
_RELEASED_CONDITIONS: Final = (
    ("start", re.compile(r"If the string (?:prefix is|starts with) '(?P<text>\w+)', ")),
    ("end", re.compile(r"If the string (?:suffix is|ends with) '(?P<text>\w+)', ")),
    ("anywhere", re.compile(r"If the string contains '(?P<text>\w+)', ")),
    ("inside", re.compile(r"If the string contains '(?P<text>\w+)' \(not at the start\), ")),
    ("longer", re.compile(r"If the string length is greater than (?P<limit>\d+), ")),
    (
        "even",
        re.compile(r"If the string contains an even number of '(?P<text>\w)'s .*at least one"),
    ),
)

_QUESTION = """\
A string is changed step by step. In each step, go through the following rules from the top and \
apply only the first one whose condition holds, once; the next step starts again with the first \
rule. As soon as no condition holds, stop.

{rules}

Which string remains if the string at the start is {string}?

Answer with the remaining string alone, for example xyzzy."""


class StringDeletionAndModification(symbench_task.SymbenchTask):
    """Rewrite a string by a list of rules until none applies."""

    name = "string_deletion_and_modification"
    kind = "execution"
    answer_format = "a string of letters, with or without quotes"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        while True:
            rules = _rules(rng, level)
            string = "".join(rng.choices(level.letters, k=level.length))
            final = _suitable(string, rules, level)
            if final is not None:
                break
        listed = (f"{i}. {_sentence(rule)}" for i, rule in enumerate(rules, 1))
        return Puzzle(
            question=_QUESTION.format(rules="\n".join(listed), string=string),
            answer=final,
            metadata={"rules": [dataclasses.asdict(rule) for rule in rules], "string": string},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        metadata = json.loads(example.metadata)
        states = rewrite(metadata["string"], [Rule(**rule) for rule in metadata["rules"]])
        if states is None:
            return symbench_task.wrong_verdict("the rules of this question never end")
        return answers.score_word(states[-1], answer_text)

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        string = _RELEASED_STRING.search(question)
        rules = [_released_rule(text) for text in _RELEASED_RULE.findall(question)]
        known = [dataclasses.asdict(rule) for rule in rules if rule is not None]
        if string is None or not known or len(known) < len(rules):
            raise self.malformed(number, "the question shows no string or an unknown operation")
        gold = symbench_task.read_field(solution, "final_string")
        if not isinstance(gold, str):
            raise self.malformed(number, "the solution holds no answer")
        metadata = {"rules": known, "string": string[1]}
        return self.item(number, question, metadata, gold)


def apply(rule: Rule, string: str) -> str | None:
    """Return the string after the rule, or None where its condition is false."""
    start, length = _spot(rule, string)
    if start < 0:
        return None
    string = rule.front + string[:start] + rule.put + string[start + length :] + rule.back
    return string[:-1] if rule.cut else string


def rewrite(string: str, rules: list[Rule], most: int = _MAX_STEPS) -> list[str] | None:
    """Return all strings from first to last; None where more than `most` steps are needed."""
    states = [string]
    while len(states) <= most + 1:
        after = (apply(rule, states[-1]) for rule in rules)
        found = next((text for text in after if text is not None), None)
        if found is None:
            return states
        states.append(found)
    return None


def _spot(rule: Rule, string: str) -> tuple[int, int]:
    """Return start and length of the piece to replace; the start is -1 where there is none."""
    match rule.at:
        case "start":
            return (0 if string.startswith(rule.text) else -1), len(rule.text)
        case "end":
            start = len(string) - len(rule.text)
            return (start if string.endswith(rule.text) else -1), len(rule.text)
        case "anywhere":
            return string.find(rule.text), len(rule.text)
        case "inside":
            return string.find(rule.text, 1), len(rule.text)
        case "longer":
            return (len(string) // 2 if len(string) > rule.limit else -1), 1
        case _:
            count = string.count(rule.text)
            return (-1 if count == 0 or count % 2 else len(string)), 0


def _rules(rng: random.Random, level: _Level) -> list[Rule]:
    """Choose rules that match different things."""
    found: dict[tuple[str, str], Rule] = {}
    while len(found) < level.rules:
        rule = _rule(rng, level)
        found.setdefault((rule.at, rule.text), rule)
    return list(found.values())


def _rule(rng: random.Random, level: _Level) -> Rule:
    def word(fewest: int, most: int) -> str:
        return "".join(rng.choices(level.letters, k=rng.randint(fewest, most)))

    at = rng.choice(_KINDS)
    if at == "longer":
        return Rule(at=at, limit=rng.randint(level.length // 2, level.length))
    if at == "even":
        return Rule(at=at, text=word(1, 1), back=word(2, 2))
    text = word(2, 3) if at == "anywhere" else word(2, 2)
    put = word(0, len(text))
    while put == text:
        put = word(0, len(text))
    moved = rng.random() < 0.4
    return Rule(
        at=at,
        text=text,
        put=put,
        front=word(1, 2) if at == "end" and moved else "",
        back=word(1, 2) if at == "start" and moved else "",
    )


def _suitable(string: str, rules: list[Rule], level: _Level) -> str | None:
    """Return the last string, where the question is neither trivial nor endless."""
    fewest, most = level.steps
    states = rewrite(string, rules, most)
    if states is None or len(states) <= fewest or len(states[-1]) < _MIN_FINAL:
        return None
    used = {
        next(i for i, rule in enumerate(rules) if apply(rule, state) is not None)
        for state in states[:-1]
    }
    return states[-1] if len(used) >= min(3, len(rules) - 1) else None


def _sentence(rule: Rule) -> str:
    if rule.at == "longer":
        return (
            f"If the string has more than {rule.limit} letters, remove its middle letter "
            "(if the number of letters is even, the right one of the two in the middle)."
        )
    if rule.at == "even":
        return (
            f'If the letter "{rule.text}" occurs an even number of times, but not 0 times, '
            f'append "{rule.back}" to the string.'
        )
    piece = "its leftmost occurrence" if rule.at == "anywhere" else "these letters"
    change = f'replace {piece} by "{rule.put}"' if rule.put else f"remove {piece}"
    then = f', then append "{rule.back}" to the string' if rule.back else ""
    then += f', then put "{rule.front}" in front of the string' if rule.front else ""
    return f'If {_PLACES[rule.at]} "{rule.text}", {change}{then}.'


def _released_rule(text: str) -> Rule | None:
    """Parse a released operation; return None where it is not one of the known kinds."""
    tried = ((at, condition.match(text)) for at, condition in _RELEASED_CONDITIONS)
    at, held = next(((at, held) for at, held in tried if held is not None), ("", None))
    if held is None:
        return None
    looked, change = held.groupdict(), text[held.end() :]
    back = re.search(r"append '(\w+)'", change)
    front = re.search(r"prepend '(\w+)'", change)
    return Rule(
        at=at,
        text=looked.get("text", ""),
        put=_released_replacement(looked.get("text", ""), change),
        front=front[1] if front else "",
        back=back[1] if back else "",
        cut="and delete the last character" in change,
        limit=int(looked.get("limit", 0)),
    )


def _released_replacement(text: str, change: str) -> str:
    """Return the text that replaces `text`."""
    if put := re.search(r"with (?:its reverse \()?'(\w+)'", change):
        return put[1]
    if one := re.match(r"remove the (first|second|last) character", change):
        spot = {"first": 0, "second": 1, "last": len(text) - 1}[one[1]]
        return text[:spot] + text[spot + 1 :]
    return ""
