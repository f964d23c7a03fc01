"""Teachers of sentences: relatives and colleagues, a fact among many, candidates in formats."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, read

Circle = tuple[str, str, int, int]
"""Kind of question, name of the woman, women around her and men around her."""


class Relatives(TemplateTeacher[Circle]):
    """Counts sisters or female friends and colleagues of somebody in a circle."""

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
        $women = ["$she"$matilda] + [f"woman {i}" for i in range($w)]
        $men = [f"man {i}" for i in range($m)]
        $everyone = $women + $men
        $p = $someone
        print(sum(1 for other in $everyone if other in $women and other != $p))
        """,
        "sets": """
        $women = {"$she"$matilda, *(f"woman {i}" for i in range($w))}
        $men = {f"man {i}" for i in range($m)}
        $p = $someone
        others = ($women | $men) - {$p}
        print(len(others & $women))
        """,
        "graph": """
        from itertools import permutations

        sex = dict.fromkeys(["$she"$matilda], "f")
        sex |= {f"f{i}": "f" for i in range($w)}
        sex |= {f"m{i}": "m" for i in range($m)}
        $everyone = {$p: [] for $p in sex}
        for a, b in permutations(sex, 2):
            $everyone[a].append(b)
        $p = "$someone_graph"
        print(sum(sex[other] == "f" for other in $everyone[$p]))
        """,
    }
    methods: ClassVar = {
        "people": "I list everybody and count the women other than the person in question.",
        "sets": "As sets: all others than this person, intersected with the women.",
        "graph": "Everybody is linked to all others; I count the women among those links.",
    }
    slip = (
        ("The $w women that are named for $she are counted.",),
        """
        $women = [f"woman {i}" for i in range($w)]
        print(len($women))
        """,
    )

    @override
    def parse(self, question: str) -> Circle:
        she = read(r"^(\w+) has (\d+)", question)[1]
        if "sisters" in question:
            women = read(r"has (?:.*? )?(\d+) sisters", question)[1]
            men = read(r"has (?:.*? )?(\d+) brothers", question)[1]
            return "sibling", she, int(women), int(men)
        found = read(r"has (\d+) male (\w+) and she also has (\d+) female", question)
        return found[2].removesuffix("s"), she, int(found[3]), int(found[1])

    @override
    def values(self, data: Circle, rng: random.Random) -> Mapping[str, object]:
        kind, she, women, men = data
        inside = kind == "colleague"
        return {
            "she": she,
            "w": women,
            "m": men,
            "matilda": ', "Matilda"' if inside else "",
            "someone": '"Matilda"' if inside else '"man 0"',
            "someone_graph": "Matilda" if inside else "m0",
        }

    @override
    def openings(self, data: Circle) -> Sequence[str]:
        kind, she, women, men = data
        if kind == "sibling":
            return (
                f"{she} is a girl, so her brother has {she} and her {women} sisters as sisters.",
                f"The family has {she}, {women} more girls and {men} boys.",
                f"Siblings are shared: a brother of {she} sees {she} too among his sisters.",
            )
        if kind == "friend":
            return (
                f"The circle is {she}, {women} women and {men} men, all friends.",
                f"A male friend of {she} counts {she} among his female friends.",
                f"{she} is a woman herself, besides her {women} female friends.",
            )
        return (
            f"Matilda belongs to the circle of {she}, besides the {women} female colleagues that "
            f"{she} is said to have.",
            f"Next to Matilda the circle of {she} has {she}, {women} women and {men} men.",
            f"I model the circle of {she} with Matilda as a member besides those counted.",
        )

    @override
    def wrong_answer(self, data: Circle, answer: str, rng: random.Random) -> str:
        return str(int(answer) - 1)


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
        for $s in $text.replace("\\n", " ").split(". "):
            if $s.rstrip(". ").endswith(" " + $fact):
                print($s.rstrip(". ").removesuffix($fact).strip())
        """,
        "dictionary": """
        $text = $given
        who = {}
        for $s in $text.replace("\\n", " ").split("."):
            name, _, says = $s.strip().partition(" ")
            who[says] = name
        print(who["$what"])
        """,
        "regular_expression": """
        import re

        $text = $given
        $fact = "$what"
        found = re.search(r"(\\S+) " + re.escape($fact) + r"\\.", " ".join($text.split()))
        print(found[1])
        """,
    }
    methods: ClassVar = {
        "sentences": "I split at the full stops and take the sentence that ends with it.",
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


class NumberFormat(TemplateTeacher[tuple[str, tuple[str, ...]]]):
    """Picks the largest or smallest of numbers in several notations."""

    task = "rg_number_format"
    forms = ("floats", "decimal", "sorting")
    names: ClassVar = {
        "texts": ("texts", "candidates", "numbers"),
        "value": ("value", "parsed", "amount"),
        "best": ("best", "chosen", "result"),
    }
    scripts: ClassVar = {
        "floats": """
        $texts = "$given".split()
        $value = [float(text.replace(",", "")) for text in $texts]
        print($extreme($value))
        """,
        "decimal": """
        from decimal import Decimal

        $texts = $listed
        $best = $extreme($texts, key=lambda text: Decimal(text.replace(",", "")))
        print(f"{Decimal($best.replace(',', '')):f}")
        """,
        "sorting": """
        def $value(text):
            return float(text.replace(",", ""))

        $texts = "$given".split()
        ordered = sorted($texts, key=$value)
        $best = ordered[$place]
        print($value($best))
        """,
    }
    methods: ClassVar = {
        "floats": "Without the commas, float reads every notation alike.",
        "decimal": "Decimal compares them exactly, commas removed.",
        "sorting": "I sort by value and take the one at the end that is wanted.",
    }
    checking = (
        ("No candidate may lie beyond the answer, and it must be one of them.",),
        """
        values = [float(text.replace(",", "")) for text in "$given".split()]
        print($answer in values and all($answer $compare value for value in values))
        """,
    )
    slip = (
        ("I compare the candidates as they are written.",),
        """
        $texts = "$given".split()
        print($extreme($texts))
        """,
    )

    @override
    def parse(self, question: str) -> tuple[str, tuple[str, ...]]:
        found = read(r"pick the (largest|smallest) number of the .*?candidates: (.+)$", question)
        texts = tuple(found[2].split())
        if not all(re.fullmatch(r"-?[\d,]+(\.\d+)?(e[+-]\d+)?", text) for text in texts):
            raise UnreadableQuestionError(found[2])
        return found[1], texts

    @override
    def values(self, data: tuple[str, tuple[str, ...]], rng: random.Random) -> Mapping[str, object]:
        largest = data[0] == "largest"
        return {
            "given": " ".join(data[1]),
            "listed": list(data[1]),
            "extreme": "max" if largest else "min",
            "place": -1 if largest else 0,
            "compare": ">=" if largest else "<=",
        }

    @override
    def answer_values(self, data: tuple[str, tuple[str, ...]], answer: str) -> Mapping[str, object]:
        return {"answer": answer.replace(",", "")}

    @override
    def openings(self, data: tuple[str, tuple[str, ...]]) -> Sequence[str]:
        powers = sum("e" in text for text in data[1])
        commas = sum("," in text for text in data[1])
        return (
            f"I need the {data[0]} of {len(data[1])} numbers, {powers} in powers of ten.",
            f"{commas} of {len(data[1])} candidates have commas and {powers} an exponent.",
            f"The {len(data[1])} candidates lie close together; the {data[0]} is wanted.",
        )

    @override
    def first_attempt(self, data: tuple[str, tuple[str, ...]], rng: random.Random) -> Step | None:
        numbers = {text: float(text.replace(",", "")) for text in data[1]}
        pick = max if data[0] == "largest" else min
        right = pick(numbers.values())
        return super().first_attempt(data, rng) if numbers[pick(data[1])] != right else None

    @override
    def wrong_answer(
        self, data: tuple[str, tuple[str, ...]], answer: str, rng: random.Random
    ) -> str | None:
        right = float(answer.replace(",", ""))
        others = [t for t in data[1] if abs(float(t.replace(",", "")) - right) > 0.01]
        return rng.choice(others) if others else None


TEACHERS: tuple[Teacher[Any], ...] = (Relatives(), NeedleHaystack(), NumberFormat())
