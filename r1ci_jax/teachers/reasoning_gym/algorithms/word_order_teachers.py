"""Teachers of letters and lists in order: ransom notes, reversals and sorting."""

import collections
import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import TemplateTeacher, TextTeacher, read, script


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers:
    """Numbers as they are written, and their order."""

    numbers: tuple[str, ...]
    falling: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """A ransom note and the magazine it is cut from."""

    note: str
    magazine: str


class RansomNote(TemplateTeacher[Note]):
    """Decides if a note can be cut from a magazine."""

    task = "rg_ransom_note"
    forms = ("counter", "cut_out", "count_each", "sorted_letters")
    names: ClassVar = {
        "note": ("note", "ransom_note", "wanted"),
        "magazine": ("magazine", "paper", "available"),
    }
    scripts: ClassVar = {
        "counter": """
            from collections import Counter

            $note = "$data"
            $magazine = "$paper"
            missing = Counter($note) - Counter($magazine)
            print(not missing)
            """,
        "cut_out": """
            $note = "$data"
            $magazine = list("$paper")
            possible = True
            for letter in $note:
                if letter not in $magazine:
                    possible = False
                    break
                $magazine.remove(letter)
            print(possible)
            """,
        "count_each": """
            $note = "$data"
            $magazine = "$paper"
            print(all($note.count(ch) <= $magazine.count(ch) for ch in set($note)))
            """,
        "sorted_letters": """
            $note = sorted("$data")
            $magazine = sorted("$paper")
            used = 0
            for letter in $magazine:
                # Both are sorted: a letter of the magazine serves the next one of the note or none.
                if used < len($note) and letter == $note[used]:
                    used += 1
            print(used == len($note))
            """,
    }
    methods: ClassVar = {
        "counter": "The difference of two Counters holds the letters that are missing.",
        "cut_out": "I cut the letters out one by one and stop where one is not there.",
        "count_each": "Each letter must occur in the magazine at least as often as in the note.",
        "sorted_letters": "With both sorted, one pass over the magazine matches letter by letter.",
    }
    exploring = (
        (
            "First I look at the letters which the note needs most.",
            "I begin with need and supply of the most frequent letters of the note.",
        ),
        """
        from collections import Counter

        $note = "$data"
        $magazine = "$paper"
        for letter, need in Counter($note).most_common(5):
            print(letter, "needed", need, "there", $magazine.count(letter))
        """,
    )
    slip = (
        (
            "Every letter of the note has to be found in the magazine, a subset test.",
            "I compare the letters of the note with those of the magazine as sets.",
        ),
        """
        $note = "$data"
        $magazine = "$paper"
        print(set($note) <= set($magazine))
        """,
    )

    @override
    def parse(self, question: str) -> Note:
        found = read(r"Ransom note: ([a-z]+)\nMagazine: ([a-z]+)", question)
        return Note(note=found[1], magazine=found[2])

    @override
    def values(self, data: Note, rng: random.Random) -> Mapping[str, object]:
        return {"data": data.note, "paper": data.magazine}

    @override
    def openings(self, data: Note) -> Sequence[str]:
        note, magazine = len(data.note), len(data.magazine)
        return (
            f"The note needs {note} letters and the magazine offers {magazine}, each usable once.",
            f'Can "{data.note[:12]}{"..." if note > 12 else ""}" be cut from {magazine} letters? '
            "Multiplicities count.",
            f"Each of the {magazine} letters of the magazine may serve one letter of the note.",
        )

    @override
    def first_attempt(self, data: Note, rng: random.Random) -> Step | None:
        missing = collections.Counter(data.note) - collections.Counter(data.magazine)
        subset = set(data.note) <= set(data.magazine)
        return super().first_attempt(data, rng) if missing and subset else None

    @override
    def in_words(self, data: Note, rng: random.Random) -> tuple[str, str] | None:
        if len(data.note) > 10 or len(data.magazine) > 26:
            return None
        need, there = collections.Counter(data.note), collections.Counter(data.magazine)
        parts = [f"{letter}: needs {n}, has {there[letter]}" for letter, n in need.items()]
        short = [letter for letter, n in need.items() if n > there[letter]]
        verdict = f"There is too little of {', '.join(short)}." if short else "Nothing is missing."
        opening = rng.choice(("I count letter by letter.", "Need and supply of each letter:"))
        return f"{opening} {'; '.join(parts)}. {verdict}", str(not short)

    @override
    def wrong_answer(self, data: Note, answer: str, rng: random.Random) -> str:
        return "False" if answer == "True" else "True"


class SpellBackward(TextTeacher):
    """Spells a word backward."""

    task = "rg_spell_backward"
    forms = ("slice", "reversed", "loop", "indices")
    pattern = r"Spell this word backward \(example: sun -> nus\): (\w+)"
    names: ClassVar = {"word": ("word", "given", "text"), "out": ("result", "backward", "out")}
    scripts: ClassVar = {
        "slice": '$word = "$data"\nprint($word[::-1])',
        "reversed": '$word = "$data"\n$out = "".join(reversed($word))\nprint($out)',
        "loop": '$word = "$data"\n$out = ""\nfor ch in $word:\n    $out = ch + $out\nprint($out)',
        "indices": """
            $word = "$data"
            $out = [$word[i] for i in range(len($word) - 1, -1, -1)]
            print("".join($out))
            """,
    }
    methods: ClassVar = {
        "slice": "A slice with step -1 reads it from the end.",
        "reversed": "I join the reversed letters.",
        "loop": "Each next letter is put in front of those before it.",
        "indices": "I run through the indices from the last one down to 0.",
    }
    checking = (
        (
            "The letter at each place must equal the one at the mirrored place of the word.",
            "I compare the two spellings place by place, one from the front and one from the back.",
        ),
        """
        $word, $out = "$data", $answer
        pairs = list(zip($word, reversed($out)))
        print(len($word) == len($out) and all(a == b for a, b in pairs))
        """,
    )
    slip = (
        (
            "I collect the letters from the last to the first.",
            "A loop over falling indices does it.",
        ),
        """
        $word = "$data"
        $out = ""
        for i in range(len($word) - 1, 0, -1):
            $out += $word[i]
        print($out)
        """,
    )

    @override
    def openings(self, data: str) -> Sequence[str]:
        return (
            f'"{data}" has {len(data)} letters, and their order is to be turned round.',
            f'I reverse the {len(data)} letters of "{data}" and keep their case.',
            f'The last letter of "{data}", "{data[-1]}", comes first.',
            f'"{data}" is to be read from its end.',
        )

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str]:
        forth, back = ", ".join(data), ", ".join(reversed(data))
        opening = rng.choice(("The letters in order are", "Spelled out, the word is"))
        return f"{opening} {forth}. From the last to the first: {back}.", data[::-1]

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str | None:
        at = rng.randrange(len(answer) - 1)
        guess = answer[:at] + answer[at + 1] + answer[at] + answer[at + 2 :]
        return None if guess == answer else guess


class WordSequenceReversal(TemplateTeacher[tuple[str, ...]]):
    """Reverses a list of words."""

    task = "rg_word_sequence_reversal"
    forms = ("slice", "deque", "stack", "indices")
    names: ClassVar = {
        "words": ("words", "items", "sequence"),
        "out": ("result", "backward", "flipped"),
    }
    scripts: ClassVar = {
        "slice": '$words = $data\nprint(", ".join($words[::-1]))',
        "deque": """
            from collections import deque

            $out = deque()
            for word in $data:
                $out.appendleft(word)
            print(", ".join($out))
            """,
        "stack": """
            $words = $data
            $out = []
            while $words:
                $out.append($words.pop())
            print(", ".join($out))
            """,
        "indices": """
            $words = $data
            n = len($words)
            $out = [$words[n - 1 - i] for i in range(n)]
            print(*$out, sep=", ")
            """,
    }
    methods: ClassVar = {
        "slice": "A slice with step -1 turns the list round.",
        "deque": "I push each one to the left end of a deque.",
        "stack": "Popped from the end like a stack, they come out in the new order.",
        "indices": "Position i takes the word at n - 1 - i.",
    }
    checking = (
        (
            "Reversed again, the answer must be the list of the question.",
            "I compare the answer from its end with the given list.",
        ),
        """
        $words = $data
        $out = $answer.split(", ")
        print(len($out) == len($words) and all(a == b for a, b in zip($words, reversed($out))))
        """,
    )
    slip = (
        (
            "I reverse the text of the list with a slice.",
            "One slice over the whole text turns it round.",
        ),
        '$words = "$joined"\nprint($words[::-1])',
    )

    @override
    def parse(self, question: str) -> tuple[str, ...]:
        found = read(r"Reverse this list of words: ([^\n]+)", question)
        return tuple(found[1].strip().split(", "))

    @override
    def values(self, data: tuple[str, ...], rng: random.Random) -> Mapping[str, object]:
        joined = ", ".join(data)
        listed = script('"$joined".split(", ")', joined=joined)
        return {
            "joined": joined,
            "data": listed if len(data) > 12 or rng.random() < 0.5 else json.dumps(data),
        }

    @override
    def openings(self, data: tuple[str, ...]) -> Sequence[str]:
        return (
            f'The list has {len(data)} words and ends with "{data[-1]}", which comes first.',
            f"{len(data)} words have to stand in reverse order; the words themselves stay.",
            f'I reverse the order of {len(data)} words, from "{data[0]}" to "{data[-1]}".',
        )

    @override
    def in_words(self, data: tuple[str, ...], rng: random.Random) -> tuple[str, str] | None:
        if len(data) > 8:
            return None
        given = ", ".join(f"{i}. {word}" for i, word in enumerate(data, 1))
        turned = ", ".join(f"{i}. {data[i - 1]}" for i in range(len(data), 0, -1))
        opening = rng.choice(("I number the words:", "With numbers the list is"))
        return f"{opening} {given}. Counted down it is {turned}.", ", ".join(reversed(data))

    @override
    def wrong_answer(self, data: tuple[str, ...], answer: str, rng: random.Random) -> str | None:
        words = list(reversed(data))
        at = rng.randrange(len(words))
        return None if len(words) < 3 else ", ".join(words[:at] + words[at + 1 :])


class NumberSorting(TemplateTeacher[Numbers]):
    """Sorts decimal numbers."""

    task = "rg_number_sorting"
    forms = ("sorted_floats", "decimals", "insertion", "selection", "heap")
    names: ClassVar = {
        "numbers": ("numbers", "values", "nums", "data"),
        "out": ("ordered", "result", "arranged"),
    }
    scripts: ClassVar = {
        "sorted_floats": """
            $numbers = $data
            $out = sorted($numbers$reverse)
            print(list(map(str, $out)))
            """,
        "decimals": """
            from decimal import Decimal

            $numbers = "$listed".split(", ")
            $out = sorted($numbers, key=Decimal$reverse)
            print($out)
            """,
        "insertion": """
            $numbers = $data
            $out = []
            for x in $numbers:
                place = 0
                while place < len($out) and $out[place] $before x:
                    place += 1
                $out.insert(place, x)
            print([str(x) for x in $out])
            """,
        "selection": """
            $numbers = $data
            $out = []
            while $numbers:
                x = $extreme($numbers)
                $numbers.remove(x)
                $out.append(str(x))
            print($out)
            """,
        "heap": """
            import heapq

            $numbers = $data
            $out = heapq.$heap(len($numbers), $numbers)
            print([str(x) for x in $out])
            """,
    }
    methods: ClassVar = {
        "sorted_floats": "Python's sorted does it; the list has to hold strings.",
        "decimals": "I keep the strings as given and compare them as Decimals.",
        "insertion": "Insertion sort puts each one in its place among those before it.",
        "selection": "I take out the next extreme number again and again.",
        "heap": "heapq returns all of them in this order.",
    }
    checking = (
        (
            "Neighbors must be in the asked order and no number may be lost or changed.",
            "I test each pair of neighbors, and that the same $count numbers are there.",
        ),
        """
        given = $data
        $out = [float(x) for x in $literal]
        in_order = all(a $not_after b for a, b in zip($out, $out[1:]))
        print(in_order and sorted($out) == sorted(given))
        """,
    )
    slip = (
        (
            "I sort the list of strings and print it.",
            "The answer is a list of strings, so I sort the strings.",
        ),
        """
        $numbers = "$listed".split(", ")
        print(sorted($numbers$reverse))
        """,
    )

    @override
    def parse(self, question: str) -> Numbers:
        found = read(r"Sort these numbers in (ascending|descending) order: ([-\d., ]+)", question)
        return Numbers(numbers=tuple(found[2].strip().split(", ")), falling=found[1][0] == "d")

    @override
    def values(self, data: Numbers, rng: random.Random) -> Mapping[str, object]:
        falling = data.falling
        return {
            "data": f"[{', '.join(data.numbers)}]",
            "listed": ", ".join(data.numbers),
            "count": len(data.numbers),
            "reverse": ", reverse=True" if falling else "",
            "before": ">=" if falling else "<=",
            "not_after": ">=" if falling else "<=",
            "extreme": "max" if falling else "min",
            "heap": "nlargest" if falling else "nsmallest",
        }

    @override
    def openings(self, data: Numbers) -> Sequence[str]:
        count, order = len(data.numbers), "descending" if data.falling else "ascending"
        first = "largest" if data.falling else "smallest"
        return (
            f"The {count} numbers have to stand in {order} order, the {first} first.",
            f"{count} numbers are to be put in {order} order by value.",
            f"I sort {count} numbers, {data.numbers[0]} and those after it, in {order} order.",
        )

    @override
    def in_words(self, data: Numbers, rng: random.Random) -> tuple[str, str] | None:
        if len(data.numbers) > 6:
            return None
        ordered = sorted(data.numbers, key=float, reverse=data.falling)
        negative = [each for each in ordered if each.startswith("-")]
        others = [each for each in ordered if not each.startswith("-")]
        opening = rng.choice(self.openings(data))
        if not negative or not others:
            group = "All are negative" if negative else "None is negative"
            return f"{opening} {group}, so they are {', '.join(ordered)}.", str(ordered)
        below, above = f"the negative ones ({', '.join(negative)})", f"({', '.join(others)})"
        if data.falling:
            words = f"First come those without a minus sign {above}, then {below}."
        else:
            words = f"First come {below}, then the others {above}."
        return f"{opening} {words}", str(ordered)

    @override
    def check(self, data: Numbers, answer: str, rng: random.Random) -> Step | None:
        few = len(data.numbers) <= _FEW_NUMBERS
        return super().check(data, answer, rng) if few else None

    @override
    def first_attempt(self, data: Numbers, rng: random.Random) -> Step | None:
        by_text = sorted(data.numbers, reverse=data.falling)
        wrong = by_text != sorted(data.numbers, key=float, reverse=data.falling)
        few = len(data.numbers) <= _FEW_NUMBERS
        return super().first_attempt(data, rng) if wrong and few else None

    @override
    def wrong_answer(self, data: Numbers, answer: str, rng: random.Random) -> str | None:
        by_text = sorted(data.numbers, reverse=data.falling)
        right = sorted(data.numbers, key=float, reverse=data.falling)
        few = len(data.numbers) <= _FEW_NUMBERS
        return str(by_text) if by_text != right and few else None


_FEW_NUMBERS = 20

TEACHERS: tuple[Teacher[Any], ...] = (
    RansomNote(),
    SpellBackward(),
    WordSequenceReversal(),
    NumberSorting(),
)
