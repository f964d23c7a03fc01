"""The teacher of web_of_lies: a chain of people who tell of each other whether they lie."""

import dataclasses
import random
import re
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import match, read_body
from r1ci_jax.teachers.bbh.yes_no_teacher import YesNoTeacher
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    Pattern,
    quote,
    wrap_items,
)

_NAMES: Final = {
    "truthful": ("truthful", "honest", "tells_truth", "is_honest"),
    "claims": ("claims", "statements", "says"),
    "who": ("speaker", "who", "person"),
    "other": ("other", "target", "subject", "about"),
}

_FORMS: Final[dict[str, Pattern]] = {
    "chain": (
        (
            "$start is known, and every later person speaks about somebody already decided: a "
            "person is truthful exactly if the claim agrees with the facts.",
            "I decide the $size people in order. From $start to $asked, each one tells the truth "
            "if and only if what they say is so.",
            "The claims form a chain from $start to $asked, so one pass settles all of them.",
        ),
        """
$truthful = {"$start": $known}
# (speaker, about whom, whether the speaker calls them truthful)
$claims = $rows
for $who, $other, said in $claims:
    $truthful[$who] = said == $truthful[$other]
print("Yes" if $truthful["$asked"] else "No")
""",
    ),
    "parity": (
        (
            "Each `lies` flips truthfulness along the chain, each `tells the truth` keeps it. So "
            "only the parity of the lies among the statements counts.",
            "Saying that someone lies makes the speaker the opposite of that person. I count the "
            "flips from $start to $asked.",
        ),
        """
# What is said at each link of the chain, from $start's own state to $asked's claim.
chain = $verbs
flips = sum(verb == "lies" for verb in chain)
print("Yes" if flips % 2 == 0 else "No")
""",
    ),
    "all assignments": (
        (
            "With $size people there are only 2**$size ways to be truthful or not. I try them all "
            "and keep the one that fits each claim and what is known of $start.",
            "Brute force over the truth values of all $size people: a statement holds exactly if "
            "its speaker is truthful.",
        ),
        """
from itertools import product

people = $people
$claims = $rows
stated = $known  # of $start
for values in product([True, False], repeat=len(people)):
    $truthful = dict(zip(people, values))
    if $truthful["$start"] != stated:
        continue
    if all($truthful[$who] == ($truthful[$other] == said) for $who, $other, said in $claims):
        print("Yes" if $truthful["$asked"] else "No")
""",
    ),
    "recursion": (
        (
            "To know whether $asked is truthful I ask about the person $asked speaks of, and so on "
            "back to $start: a recursive function.",
            "Backwards from $asked: someone is truthful if their claim about the next person "
            "matches that person. The recursion ends at $start.",
        ),
        """
$claims = $table


def $truthful($who):
    if $who == "$start":
        return $known
    $other, said = $claims[$who]
    return $truthful($other) == said


print("Yes" if $truthful("$asked") else "No")
""",
    ),
}

_CHECK: Final = """
# Assume the answer for $asked and go back along the chain: $start must come out as stated.
state = $claimed
for said_truth in $backwards:
    state = state == said_truth
stated = $known
print(state == stated)
"""
_CHECK_WORDS: Final = (
    "I assume that the answer $answer is right and go back from $asked to $start, whose honesty is "
    "given.",
    "Backwards: with $answer for $asked, the claims must lead to what is stated of $start.",
)

_TABLE: Final = """
$truthful = {"$start": $known}
for $who, $other, said in $rows:
    $truthful[$who] = said == $truthful[$other]
    print($who, "is truthful" if $truthful[$who] else "lies")
"""
_TABLE_WORDS: Final = (
    "First the list of the $size people with what each one is.",
    "I let the script tell about each speaker from $start onwards.",
)

_SLIP: Final = """
# $asked speaks only of $before.
$truthful = {"$start": $known}
for $who, $other, said in $rows:
    $truthful[$other] = said
claim = $last
print("Yes" if $truthful["$before"] == claim else "No")
"""
_SLIP_WORDS: Final = (
    "I take down what is said about each person and see whether $asked's claim agrees with it.",
    "Each statement fixes the person it speaks of; then I compare with what $asked says.",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Web:
    """Who is known to be truthful or not, and who says what of whom (True: tells the truth)."""

    start: str
    known: bool
    claims: tuple[tuple[str, str, bool], ...]
    subject: str

    @property
    def people(self) -> list[str]:
        """All people, in the order of the chain."""
        return [self.start, *(who for who, _, _ in self.claims)]

    def states(self) -> dict[str, bool]:
        """Return who is truthful."""
        truthful = {self.start: self.known}
        for who, other, said in self.claims:
            truthful[who] = said == truthful[other]
        return truthful


class WebOfLies(YesNoTeacher[Web]):
    """Decides whether the last person tells the truth."""

    task = "bbh_web_of_lies"
    forms = tuple(_FORMS)
    names = _NAMES
    patterns = _FORMS
    checking = (_CHECK_WORDS, _CHECK)
    exploring = (_TABLE_WORDS, _TABLE)
    slip = (_SLIP_WORDS, _SLIP)

    @override
    def parse(self, question: str) -> Web:
        found = match(
            r"Question: (\w+) (tells the truth|lies)\. (.+) Does (\w+) tell the truth\?",
            read_body(question),
        )
        claims = [
            (who, other, verb != "lies")
            for who, other, verb in re.findall(
                r"(\w+) says (\w+) (tells the truth|lies)\.", found[3]
            )
        ]
        known = found[1]
        for who, other, _ in claims:
            if other != known:
                raise UnreadableQuestionError("the people do not speak in a chain")
            known = who
        if not claims or known != found[4]:
            raise UnreadableQuestionError("the last speaker is not the one asked about")
        return Web(start=found[1], known=found[2] != "lies", claims=tuple(claims), subject=found[4])

    @override
    def values(self, data: Web, rng: random.Random) -> dict[str, object]:
        rows = [f"({quote(a)}, {quote(b)}, {said})" for a, b, said in data.claims]
        table = [f"{quote(a)}: ({quote(b)}, {said})" for a, b, said in data.claims]
        links = [
            f"{quote(verb_of(data.known))},  # {data.start} by the question",
            *(f"{quote(verb_of(said))},  # {a} says of {b}" for a, b, said in data.claims),
        ]
        backwards = [str(said) for _, _, said in reversed(data.claims)]
        return {
            "start": data.start,
            "known": data.known,
            "asked": data.subject,
            "size": len(data.people),
            "people": wrap_items([quote(name) for name in data.people], "[", "]"),
            "rows": wrap_items(rows, "[", "]"),
            "table": wrap_items(table, "{", "}"),
            "verbs": "[\n    " + "\n    ".join(links) + "\n]",
            "backwards": wrap_items(backwards, "[", "]"),
            "before": data.claims[-1][1],
            "last": data.claims[-1][2],
        }

    @override
    def first_attempt(self, data: Web, rng: random.Random) -> Step | None:
        said = {other: flag for _, other, flag in data.claims}
        before, last = data.claims[-1][1], data.claims[-1][2]
        if (said[before] == last) == data.states()[data.subject]:
            return None
        return super().first_attempt(data, rng)

    @override
    def in_words(self, data: Web, rng: random.Random) -> tuple[str, str]:
        truthful = data.states()
        lines = [f"{data.start} {verb_of(data.known)}, as stated."]
        for who, other, said in data.claims:
            fits = "true" if said == truthful[other] else "false"
            lines.append(
                f"{who} says that {other} {verb_of(said)}, which is {fits}, so {who} "
                f"{verb_of(truthful[who])}."
            )
        opening = rng.choice(
            (
                f"I follow the chain from {data.start} to {data.subject}.",
                "Each claim can be judged as soon as the person it is about is settled.",
            )
        )
        return "\n".join([opening, *lines]), "Yes" if truthful[data.subject] else "No"


def verb_of(truthful: bool) -> str:
    """Return what the question says of such a person."""
    return "tells the truth" if truthful else "lies"


TEACHERS: tuple[Teacher[Any], ...] = (WebOfLies(),)
