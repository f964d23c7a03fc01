"""Teachers of sentences: relatives and friends, a fact among many, houses in a row."""

import dataclasses
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    TemplateTeacher,
    count_noun,
    list_literal,
    read,
    rows_literal,
)

Circle = tuple[str, str, int, int]
"""Kind of question, name of the woman, women around her and men around her."""


class Relatives(TemplateTeacher[Circle]):
    """Counts sisters or female friends of somebody in a circle."""

    task = "rg_aiw"
    forms = ("people", "sets", "graph")
    names: ClassVar = {
        "women": ("women", "female", "ladies"),
        "men": ("men", "male", "gentlemen"),
        "everyone": ("everyone", "group", "circle"),
        "p": ("p", "person", "one"),
    }
    scripts: ClassVar = {
        "people": """
        $women = ["$she"] + [f"woman {i}" for i in range($w)]
        $men = [f"man {i}" for i in range($m)]
        $everyone = $women + $men
        $p = "man 0"
        print(sum(1 for other in $everyone if other in $women and other != $p))
        """,
        "sets": """
        $women = {"$she", *(f"woman {i}" for i in range($w))}
        $men = {f"man {i}" for i in range($m)}
        $p = "man 0"
        others = ($women | $men) - {$p}
        print(len(others & $women))
        """,
        "graph": """
        from itertools import permutations

        sex = dict.fromkeys(["$she"], "f")
        sex |= {f"f{i}": "f" for i in range($w)}
        sex |= {f"m{i}": "m" for i in range($m)}
        $everyone = {$p: [] for $p in sex}
        for a, b in permutations(sex, 2):
            $everyone[a].append(b)
        $p = "m0"
        print(sum(sex[other] == "f" for other in $everyone[$p]))
        """,
    }
    methods: ClassVar = {
        "people": "I list everybody and count the women other than the person in question.",
        "sets": "As sets: all others than this person, intersected with the women.",
        "graph": "Everybody is linked to all others; I count the women among those links.",
    }
    slip = (
        (
            "Everybody in question shares the $w $kind of $she.",
            "The people around $she are listed, and I count the women.",
            "$she has $w $kind; the others have the same.",
        ),
        """
        $women = [f"woman {i}" for i in range($w)]
        $men = [f"man {i}" for i in range($m)]
        $everyone = $women + $men
        print(sum(1 for $p in $everyone if $p in $women))
        """,
    )

    @override
    def parse(self, question: str) -> Circle:
        she = read(r"^(\w+) has (\d+)", question)[1]
        if "sisters" in question:
            women = read(r"has (?:.*? )?(\d+) sisters", question)[1]
            men = read(r"has (?:.*? )?(\d+) brothers", question)[1]
            return "sibling", she, int(women), int(men)
        found = read(r"has (\d+) male friends and she also has (\d+) female", question)
        return "friend", she, int(found[2]), int(found[1])

    @override
    def values(self, data: Circle, rng: random.Random) -> Mapping[str, object]:
        kind, she, women, men = data
        return {
            "she": she,
            "kind": "sisters" if kind == "sibling" else f"female {kind}s",
            "w": women,
            "m": men,
        }

    @override
    def openings(self, data: Circle) -> Sequence[str]:
        kind, she, women, men = data
        if kind == "sibling":
            return (
                f"A brother of {she} has {she} as a sister and the {women} that she has.",
                f"The family has {she}, {_people(women, 'more girl')} and {_people(men, 'boy')}.",
                f"Siblings are shared: a brother of {she} sees {she} too among his sisters.",
            )
        return (
            f"The circle is {she}, {_people(women, 'woman')} and {_people(men, 'man')}.",
            f"A male friend of {she} counts {she} among his female friends.",
            f"{she} is a woman herself, besides {_people(women, 'female friend')}.",
        )

    @override
    def wrong_answer(self, data: Circle, answer: str, rng: random.Random) -> str:
        return str(int(answer) - 1)


def _people(number: int, noun: str) -> str:
    return count_noun(number, noun).replace("womans", "women").replace("mans", "men")


Facts = tuple[tuple[str, ...], str]


class NeedleHaystack(TemplateTeacher[Facts]):
    """Finds the one sentence that says what is looked for."""

    task = "rg_needle_haystack"
    forms = ("sentences", "dictionary", "regular_expression")
    names: ClassVar = {
        "text": ("text", "haystack", "facts"),
        "fact": ("fact", "needle", "phrase"),
        "s": ("s", "sentence", "line"),
    }
    scripts: ClassVar = {
        "sentences": """
        $text = $given
        $fact = "$what"
        for $s in $text.splitlines():
            if $s.endswith(f" {$fact}."):
                print($s.removesuffix(f" {$fact}."))
        """,
        "dictionary": """
        $text = $given
        who = {}
        for $s in $text.strip().split("\\n"):
            name, says = $s.rstrip(".").split(" ", 1)
            who[says] = name
        print(who["$what"])
        """,
        "regular_expression": """
        import re

        $text = $given
        $fact = "$what"
        found = re.search(rf"(\\S+) {re.escape($fact)}\\.", $text)
        print(found[1])
        """,
    }
    methods: ClassVar = {
        "sentences": "With one sentence a line, I take the line that ends with it.",
        "dictionary": "A dictionary from what is said to the name answers it at once.",
        "regular_expression": "A search for the word before the phrase gives the name.",
    }

    @override
    def parse(self, question: str) -> Facts:
        found = read(r"^(.*?)\s*\nWho (.+)\? Reply only with a name", question)
        facts = tuple(part.strip() for part in found[1].split(". "))
        return tuple(fact.rstrip(".") for fact in facts), found[2]

    @override
    def values(self, data: Facts, rng: random.Random) -> Mapping[str, object]:
        place = next((i for i, fact in enumerate(data[0]) if fact.endswith(data[1])), 0)
        low = max(0, place - rng.randint(2, 5))
        part = data[0][low : place + rng.randint(3, 6)]
        body = "\n".join(f"{fact}." for fact in part)
        return {"given": f'"""\n{body}\n"""', "what": data[1]}

    @override
    def openings(self, data: Facts) -> Sequence[str]:
        return (
            f"One of {len(data[0])} sentences says who {data[1]}; I copy the passage around it.",
            f"The phrase to find is '{data[1]}', among {len(data[0])} sentences.",
            f"Several sentences look alike, so I match '{data[1]}' word for word.",
        )

    @override
    def in_words(self, data: Facts, rng: random.Random) -> tuple[str, str] | None:
        found = [fact for fact in data[0] if fact.endswith(" " + data[1])]
        if len(found) != 1:
            return None
        name = found[0].removesuffix(data[1]).strip()
        place = data[0].index(found[0]) + 1
        words = rng.choice(
            (
                f'Sentence {place} of {len(data[0])} reads "{found[0]}." That is the one.',
                f'I read until the phrase comes up: "{found[0]}."',
                f'The text has "{found[0]}." and nobody else is said to do so.',
            )
        )
        return words, name

    @override
    def wrong_answer(self, data: Facts, answer: str, rng: random.Random) -> str | None:
        others = [fact.split()[0] for fact in data[0] if not fact.startswith(answer)]
        return rng.choice(others) if others else None


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
    (r"(.+?) is (.+)", "{0} == {1}"),
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
        # The words of each clue, and its test on the house numbers.
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
            for places in permutations($numbers):
                more = $at | dict(zip($groups[k], places))
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
            orders = list(permutations($numbers))
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
        # The words of each clue, and its test on the house numbers.
        $clues = [
        $lambdas
        ]
        found = [{}]
        for group in $groups:
            found = [
                {**$at, **dict(zip(group, order))}
                for $at in found
                for order in permutations($numbers)
            ]
            ready = [t for need, t in $clues if all(word in found[0] for word in need.split())]
            found = [$at for $at in found if all(test($at) for test in ready)]
        $at = found[0]
        print(next(name for name in $groups[0] if $at[name] == $which))
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
            "given": rows_literal(map(list_literal, data.groups)),
            "numbers": f"range(1, {data.size + 1})",
            "lambdas": "\n".join(lambdas),
            "texts": "\n".join(f'    "{text}",' for text in data.conditions),
            "which": data.house,
        }

    @override
    def openings(self, data: Street) -> Sequence[str]:
        return (
            f"The {len(data.conditions)} clues leave one way to place {len(data.groups)} kinds of "
            f"features in {data.size} houses.",
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


TEACHERS: tuple[Teacher[Any], ...] = (Relatives(), NeedleHaystack(), ZebraPuzzle())
