"""Teacher of logic puzzles about houses in a row."""

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read


@dataclasses.dataclass(frozen=True)
class Street:
    """What a puzzle says."""

    size: int
    groups: tuple[tuple[str, ...], ...]
    conditions: tuple[str, ...]
    """Python expressions in which a word stands for the number of its house."""
    house: int


_RELATIONS = (
    (r"(.+) is in the (\w+) house", "{0} == {1}"),
    (r"(.+) is not in the (\w+) house", "{0} != {1}"),
    (r"(.+) is directly left of (.+)", "{0} + 1 == {1}"),
    (r"(.+) and (.+) are next to each other", "abs({0} - {1}) == 1"),
    (r"(.+) is somewhere to the left of (.+)", "{0} < {1}"),
    (r"(.+) is somewhere to the right of (.+)", "{0} > {1}"),
    (r"There is one house between (.+) and (.+)", "abs({0} - {1}) == 2"),
    (r"There are two houses between (.+) and (.+)", "abs({0} - {1}) == 3"),
    (r"(.+) is (.+)", "{0} == {1}"),
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


class ZebraPuzzle(TemplateTeacher[Street]):
    """Finds who lives in a house."""

    task = "rg_zebra_puzzles"
    forms = ("backtracking", "product", "filtering")
    names: ClassVar = {
        "groups": ("groups", "features", "kinds"),
        "clues": ("clues", "conditions", "rules"),
        "at": ("at", "house", "place"),
    }
    scripts: ClassVar = {
        "backtracking": """
        from itertools import permutations

        $groups = $given
        $clues = [
        $lambdas
        ]

        def consistent($at):
            for needed, test in $clues:
                if all(word in $at for word in needed.split()) and not test($at):
                    return False
            return True

        def assign(k, $at):
            if k == len($groups):
                yield $at
                return
            for numbers in permutations(range(1, $n + 1)):
                more = $at | dict(zip($groups[k], numbers))
                if consistent(more):
                    yield from assign(k + 1, more)

        for $at in assign(0, {}):
            print(next(name for name in $groups[0] if $at[name] == $which))
        """,
        "product": """
        from itertools import permutations

        $groups = $given
        $clues = [
        $texts
        ]
        # Each world maps words to houses; a clue counts as soon as all its words are placed.
        worlds = [{}]
        for group in $groups:
            orders = list(permutations(range(1, $n + 1)))
            worlds = [w | dict(zip(group, order)) for w in worlds for order in orders]
            for clue in $clues:
                code = compile(clue, "clue", "eval")
                if set(code.co_names) - {"abs"} <= set(worlds[0]):
                    worlds = [w for w in worlds if eval(code, {}, w)]
        for $at in worlds:
            print(next(name for name in $groups[0] if $at[name] == $which))
        """,
        "filtering": """
        from itertools import permutations

        $groups = $given
        $clues = [
        $lambdas
        ]
        found = [{}]
        for group in $groups:
            found = [
                {**$at, **dict(zip(group, order))}
                for $at in found
                for order in permutations(range(1, $n + 1))
            ]
            ready = [t for need, t in $clues if all(word in found[0] for word in need.split())]
            found = [$at for $at in found if all(test($at) for test in ready)]
        $at = found[0]
        print([name for name in $groups[0] if $at[name] == $which][0])
        """,
    }
    methods: ClassVar = {
        "backtracking": "I place feature by feature and drop a placement once a clue fails.",
        "product": "Clues are expressions in house numbers; worlds that break one are dropped.",
        "filtering": "All placements of a feature extend those so far, and the clues filter them.",
    }

    @override
    def parse(self, question: str) -> Street:
        size = int(read(r"There are (\d+) houses", question)[1])
        groups = tuple(
            tuple(
                ("child_" if "child" in kind else "") + _word(each) for each in listed.split(", ")
            )
            for kind, listed in re.findall(r"^ - ([^:\n]+): (.+)$", question, re.MULTILINE)
        )
        words = [word for group in groups for word in group]
        if len(set(words)) != len(words) or any(len(group) != size for group in groups):
            raise UnreadableQuestionError(question[:200])
        clues = re.findall(r"^\d+\. (.+)\.$", question, re.MULTILINE)
        house = read(r"What is Name of the person who lives in House (\d+)", question)[1]
        conditions = tuple(_condition(clue, words) for clue in clues)
        return Street(size=size, groups=groups, conditions=conditions, house=int(house))

    @override
    def values(self, data: Street, rng: random.Random) -> Mapping[str, object]:
        lambdas = []
        for text in data.conditions:
            words = [word for word in re.findall(r"[a-z_]\w*", text) if word != "abs"]
            body = text
            for word in dict.fromkeys(words):
                body = re.sub(rf"\b{word}\b", f'h["{word}"]', body)
            lambdas.append(f'    ("{" ".join(dict.fromkeys(words))}", lambda h: {body}),')
        return {
            "given": "[\n" + "".join(f"    {list(group)},\n" for group in data.groups) + "]",
            "lambdas": "\n".join(lambdas),
            "texts": "\n".join(f'    "{text}",' for text in data.conditions),
            "n": data.size,
            "which": data.house,
        }

    @override
    def openings(self, data: Street) -> Sequence[str]:
        return (
            f"{data.size} houses, {len(data.groups)} features, {len(data.conditions)} clues.",
            f"I number the houses 1 to {data.size} and write the {len(data.conditions)} clues as "
            "tests.",
            f"Who lives in house {data.house} follows from {len(data.conditions)} clues.",
        )

    @override
    def answer(self, data: Street, printed: str) -> str:
        return printed.split()[0] if printed.split() else ""

    @override
    def wrong_answer(self, data: Street, answer: str, rng: random.Random) -> str:
        return rng.choice([name for name in data.groups[0] if name != answer])


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text.strip().lower())


def _condition(clue: str, words: Sequence[str]) -> str:
    # A child may have the name of a person.
    clue = re.sub(r"(?i)the person's child is named|the person who is the mother of", "child", clue)
    for pattern, template in _RELATIONS:
        found = re.fullmatch(pattern, clue)
        if found:
            sides = [_side(side, words) for side in found.groups()]
            if None not in sides:
                return template.format(*sides)
    raise UnreadableQuestionError(clue)


def _side(text: str, words: Sequence[str]) -> str | None:
    """Return the word that a description means, or the number of an ordinal."""
    if text in _ORDINALS:
        return str(_ORDINALS.index(text) + 1)
    spoken = _word(text)
    if spoken.startswith("child_"):
        return spoken if spoken in words else None
    for word in sorted(words, key=len, reverse=True):
        stem = word[:-1] if word.endswith("s") else word
        if re.search(rf"(^|_){stem}", spoken):
            return word
    for word, other in _SPOKEN.items():
        if re.search(other, text) and word in words:
            return word
    return None


_SPOKEN = {
    "dane": "Dane",
    "brit": "British",
    "swede": "Swedish",
    "norwegian": "Norwegian",
    "blends": "many different blends",
}


TEACHERS: tuple[Teacher[Any], ...] = (ZebraPuzzle(),)
