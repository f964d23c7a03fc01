"""Teachers of letters (count a letter) and number_multiply."""

import math
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import join_words, pick, read, script, step

_LETTERS: Final = re.compile(r'letter "([a-z])" occur in the word below.*\n\n([a-z]+)\n')
_FACTORS: Final = re.compile(r"Multiply these integers: ([-0-9, and]+)\.\n")

_LETTER_FORMS: Final = {
    "comprehension": """
        $word = "$text"
        $letter = "$sought"
        $places = [$i for $i, $sign in enumerate($word, start=1) if $sign == $letter]
        print(f"Count: {len($places)}, Positions: {$places}")
    """,
    "find": """
        $word = "$text"
        $letter = "$sought"
        $places = []
        $i = $word.find($letter)
        while $i != -1:
            $places.append($i + 1)  # str.find counts from 0
            $i = $word.find($letter, $i + 1)
        print(f"Count: {len($places)}, Positions: {$places}")
    """,
    "regex": """
        import re

        $word = "$text"
        $places = [match.start() + 1 for match in re.finditer("$sought", $word)]
        print("Count: {}, Positions: {}".format(len($places), $places))
    """,
    "index": """
        from collections import defaultdict

        $word = "$text"
        $index = defaultdict(list)
        for $i, $sign in enumerate($word):
            $index[$sign].append($i + 1)
        $places = $index["$sought"]
        print(f"Count: {len($places)}, Positions: {$places}")
    """,
}
_LETTER_WORDS: Final = {
    "comprehension": "Going through the word with a counter that starts at 1 gives each position.",
    "find": "Searching on behind each hit finds every occurrence; str.find counts from 0, so 1 is "
    "added.",
    "regex": "A regular expression finds each occurrence with its place, to which 1 is added.",
    "index": "A dictionary from each letter to its positions answers this for any letter.",
}


class Occurrences(NamedTuple):
    """A letter and the word in which it is counted."""

    letter: str
    word: str

    @property
    def positions(self) -> list[int]:
        """Positions of the letter, counted from 1."""
        return [place for place, sign in enumerate(self.word, 1) if sign == self.letter]


def _letter_names(rng: random.Random) -> dict[str, str]:
    return pick(
        rng,
        word="word text letters",
        letter="letter target wanted",
        places="positions places found hits",
        i="i place position index",
        sign="ch char c sign",
        index="index places_of where",
    )


class Letters(Teacher[Occurrences]):
    """Counts a letter and names its positions."""

    task = "letters"
    forms = tuple(_LETTER_FORMS)

    @override
    def parse(self, question: str) -> Occurrences:
        found = read(_LETTERS, question)
        return Occurrences(found[1], found[2])

    @override
    def step(self, data: Occurrences, form: str, rng: random.Random) -> Step:
        names = _letter_names(rng)
        size = len(data.word)
        opening = rng.choice(
            [
                f'The word has {size} letters; each "{data.letter}" counts, with its place.',
                f'I need every place of "{data.letter}" in a word of {size} letters, counted '
                "from 1.",
                f'Each "{data.letter}" among the {size} letters has to be found with its position.',
                f'A letter is easily overlooked in "{data.word[:8]}...", so a script should look '
                "for "
                f'"{data.letter}".',
            ]
        )
        return Step(
            words=f"{opening} {_LETTER_WORDS[form]}",
            code=script(_LETTER_FORMS[form], text=data.word, sought=data.letter, **names),
        )

    @override
    def check(self, data: Occurrences, answer: str, rng: random.Random) -> Step:
        names = _letter_names(rng)
        count, *places = map(int, re.findall(r"[0-9]+", answer))
        code = """
            $word = "$text"
            count, $places = $claimed
            others = [sign for i, sign in enumerate($word, 1) if i not in $places]
            print(count == len(set($places)) and all($word[i - 1] == "$sought" for i in $places)
                  and "$sought" not in others)
        """
        return step(
            rng,
            [
                f'Every named position must hold "{data.letter}", and no other position may.',
                f'I check that the named positions hold "{data.letter}" and the rest of the '
                "word does not.",
            ],
            script(code, text=data.word, sought=data.letter, claimed=f"{count}, {places}", **names),
        )

    @override
    def small_case(self, data: Occurrences, rng: random.Random) -> Step:
        name = rng.choice(["positions_of", "occurrences", "find_letter"])
        code = """
            def $name(letter, word):
                return [i for i, sign in enumerate(word, start=1) if sign == letter]

            print($name("n", "banana"))
            print($name("$sought", "$start"))
        """
        return step(
            rng,
            [
                'I try the way of counting on the example "banana" and on the first letters of '
                "the word.",
                "First a test on the example of the question, which must give 3 and 5, and "
                "on the first half of the word.",
            ],
            script(code, name=name, sought=data.letter, start=data.word[: len(data.word) // 2]),
        )

    @override
    def first_attempt(self, data: Occurrences, rng: random.Random) -> Step:
        names = _letter_names(rng)
        code = """
            $word = "$text"
            $places = [i for i in range(len($word)) if $word[i] == "$sought"]
            print(f"Count: {len($places)}, Positions: {$places}")
        """
        return Step(
            words=f'I list the indices at which the word has "{data.letter}".',
            code=script(code, text=data.word, sought=data.letter, **names),
        )

    @override
    def in_words(self, data: Occurrences, rng: random.Random) -> tuple[str, str] | None:
        if len(data.word) > 20:
            return None
        numbered = ", ".join(f"{place} {sign}" for place, sign in enumerate(data.word, 1))
        positions = data.positions
        opening = rng.choice(
            ["I number the letters", "Numbered from 1 the letters are", "Letter by letter"]
        )
        return (
            f'{opening}: {numbered}. The letter "{data.letter}" stands at '
            f"{join_words(positions)}, which makes {len(positions)}.",
            f"Count: {len(positions)}, Positions: {positions}",
        )

    @override
    def wrong_answer(self, data: Occurrences, answer: str, rng: random.Random) -> str:
        positions = data.positions
        if rng.random() < 0.5:
            positions.pop(rng.randrange(len(positions)))
        else:
            positions = [place - 1 for place in positions]
        return f"Count: {len(positions)}, Positions: {positions}"


_PRODUCT_FORMS: Final = {
    "loop": """
        $factors = $numbers
        $product = 1
        for $f in $factors:
            $product *= $f
        print($product)
    """,
    "prod": """
        import math

        $factors = $numbers
        print(math.prod($factors))
    """,
    "reduce": """
        from functools import reduce
        from operator import mul

        $factors = $numbers
        $product = reduce(mul, $factors)
        print($product)
    """,
    "partial_products": """
        def multiply($f, other):
            \"\"\"Multiply by one digit after the other.\"\"\"
            total = 0
            for place, digit in enumerate(reversed(str(abs(other)))):
                total += $f * int(digit) * 10**place
            return total if other > 0 else -total

        $product = 1
        for number in $numbers:
            $product = multiply($product, number)
        print($product)
    """,
    "sign_apart": """
        $factors = $numbers
        $product = 1
        negative = 0
        for $f in $factors:
            $product *= abs($f)
            negative += $f < 0
        print(-$product if negative % 2 else $product)
    """,
}
_PRODUCT_WORDS: Final = {
    "loop": "Python's integers are exact, so multiplying one after the other is enough.",
    "prod": "math.prod multiplies integers exactly, signs included.",
    "reduce": "Folding the list with multiplication keeps the product exact.",
    "partial_products": "I multiply as on paper, digit by digit, with the sign of each factor.",
    "sign_apart": "The sizes are multiplied, and an odd number of negative factors gives a minus.",
}


def _product_names(rng: random.Random) -> dict[str, str]:
    return pick(
        rng,
        factors="factors numbers integers values",
        product="product result total_product answer",
        f="factor n x value",
    )


_SIGNS: Final = {
    0: "No factor is negative",
    1: "One factor is negative",
    2: "Two factors are negative",
    3: "Three factors are negative",
}


class NumberMultiply(Teacher[tuple[int, ...]]):
    """Multiplies integers."""

    task = "number_multiply"
    forms = tuple(_PRODUCT_FORMS)

    @override
    def parse(self, question: str) -> tuple[int, ...]:
        found = _FACTORS.search(question)
        factors = tuple(map(int, re.findall(r"-?[0-9]+", found[1]))) if found else ()
        if len(factors) < 2:
            raise UnreadableQuestionError("no integers to multiply")
        return factors

    @override
    def step(self, data: tuple[int, ...], form: str, rng: random.Random) -> Step:
        names = _product_names(rng)
        minus = sum(factor < 0 for factor in data)
        opening = rng.choice(
            [
                f"The exact product of {join_words(data)} is needed.",
                f"There are {len(data)} factors, {minus or 'none'} of them negative.",
                f"{len(data)} integers with {sum(len(str(abs(f))) for f in data)} digits in all "
                "are to be multiplied, which is safer by machine.",
            ]
        )
        return Step(
            words=f"{opening} {_PRODUCT_WORDS[form]}",
            code=script(_PRODUCT_FORMS[form], numbers=list(data), **names),
        )

    @override
    def check(self, data: tuple[int, ...], answer: str, rng: random.Random) -> Step:
        names = _product_names(rng)
        code = """
            from fractions import Fraction

            $product = $claim
            $rest = Fraction($product)
            for $f in $numbers:
                $rest /= $f
            print($rest == 1)
        """
        return step(
            rng,
            [
                f"Dividing the product by all {len(data)} factors must leave exactly 1.",
                "As a check I divide by each factor in turn; 1 has to remain.",
            ],
            script(
                code,
                numbers=list(data),
                claim=answer,
                rest=rng.choice(["rest", "left", "quotient"]),
                **names,
            ),
        )

    @override
    def first_attempt(self, data: tuple[int, ...], rng: random.Random) -> Step | None:
        if math.prod(data) > 0:
            return None
        names = _product_names(rng)
        code = """
            import re

            $product = 1
            for $f in re.findall(r"[0-9]+", "$listed"):
                $product *= int($f)
            print($product)
        """
        return Step(
            words="I read the numbers out of the text and multiply them.",
            code=script(code, listed=join_words(data), **names),
        )

    @override
    def in_words(self, data: tuple[int, ...], rng: random.Random) -> tuple[str, str] | None:
        if sum(len(str(abs(factor))) for factor in data) > 7:
            return None
        product, lines = abs(data[0]), list[str]()
        for factor in data[1:]:
            size = abs(factor)
            parts = [int(d) * 10**p for p, d in enumerate(reversed(str(size))) if d != "0"][::-1]
            pieces = [f"{product} * {part} = {product * part}" for part in parts]
            total = f", together {product * size}" if len(parts) > 1 else ""
            lines.append(f"{'; '.join(pieces)}{total}.")
            product *= size
        minus = sum(factor < 0 for factor in data)
        sign = "negative" if minus % 2 else "positive"
        opening = rng.choice(["Without the signs:", "First the sizes:", "I leave the signs aside:"])
        return (
            f"{opening} {' '.join(lines)} {_SIGNS.get(minus, f'{minus} factors are negative')}, so "
            f"the product is {sign}.",
            str(-product if minus % 2 else product),
        )

    @override
    def wrong_answer(self, data: tuple[int, ...], answer: str, rng: random.Random) -> str:
        product = math.prod(data)
        return str(rng.choice([-product, product + 10 * rng.choice((-1, 1)), product + 100]))


TEACHERS: tuple[Teacher[Any], ...] = (Letters(), NumberMultiply())
