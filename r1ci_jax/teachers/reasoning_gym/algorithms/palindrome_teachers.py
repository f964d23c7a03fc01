"""Teachers of palindromes: their generation and the partitions of a string into them."""

import collections
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import TextTeacher, join_words


class PalindromeGeneration(TextTeacher):
    """Arranges letters as a palindrome."""

    task = "rg_palindrome_generation"
    forms = ("half_of_counts", "pair_up", "outward", "ends_inward")
    pattern = r"using the following letters: ((?:[a-z], )*[a-z])"
    names: ClassVar = {
        "letters": ("letters", "chars", "given"),
        "half": ("half", "left", "front"),
        "middle": ("middle", "center", "odd"),
    }
    scripts: ClassVar = {
        "half_of_counts": """
            from collections import Counter

            counts = Counter($data)
            $half = "".join(letter * (n // 2) for letter, n in counts.items())
            $middle = "".join(letter for letter, n in counts.items() if n % 2)
            print($half + $middle + $half[::-1])
            """,
        "pair_up": """
            $letters = sorted($data)
            $half, $middle = "", ""
            while $letters:
                letter = $letters.pop()
                if $letters and $letters[-1] == letter:
                    $half += $letters.pop()
                else:
                    $middle += letter
            print($half + $middle + $half[::-1])
            """,
        "outward": """
            from collections import deque

            $letters = $data
            single = [letter for letter in set($letters) if $letters.count(letter) % 2]
            word = deque(single)
            for letter in sorted(set($letters)):
                # Each pair goes around what is there.
                for _ in range($letters.count(letter) // 2):
                    word.appendleft(letter)
                    word.append(letter)
            print("".join(word))
            """,
        "ends_inward": """
            $letters = $data
            word = [""] * len($letters)
            waiting, place = set(), 0
            for letter in $letters:
                if letter in waiting:
                    waiting.remove(letter)
                    word[place] = word[-1 - place] = letter
                    place += 1
                else:
                    waiting.add(letter)
            if waiting:
                word[place] = waiting.pop()
            print("".join(word))
            """,
    }
    methods: ClassVar = {
        "half_of_counts": "Half of each count goes to the front$odd_words.",
        "pair_up": "Sorted, equal letters are neighbors, so pairs come off the end together.",
        "outward": "I start from the middle and put pairs around it.",
        "ends_inward": "Whenever a letter's partner turns up, both go to mirrored places.",
    }
    checking = (
        (
            "The word must read the same backward and use exactly the given letters.",
            "I test both conditions: mirrored, and all $count letters used once.",
        ),
        """
        $letters = $data
        word = $answer
        print(word == word[::-1] and sorted(word) == sorted($letters))
        """,
    )
    slip = (
        (
            "Half of each letter's count in front, the same mirrored behind.",
            "I build one half of the $count letters and mirror it.",
        ),
        """
        from collections import Counter

        $half = ""
        for letter, n in Counter($data).items():
            $half += letter * ((n + 1) // 2)
        print($half + $half[::-1])
        """,
    )
    exploring = (
        (
            "First the counts: at most one letter may have an odd one.",
            "I count the letters to see the pairs and the single one.",
        ),
        """
        from collections import Counter

        counts = Counter($data)
        print(dict(counts))
        print("odd:", [letter for letter, n in counts.items() if n % 2])
        """,
    )

    @override
    def parse(self, question: str) -> str:
        return super().parse(question).replace(", ", "")

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        listed = json.dumps(list(data)) if len(data) <= _FEW_LETTERS else ""
        spaced = f'"{" ".join(data)}".split()'
        return {
            "data": listed if listed and rng.random() < 0.5 else spaced,
            "count": len(data),
            "odd_words": ", the odd letter to the middle" if len(data) % 2 else "",
        }

    @override
    def openings(self, data: str) -> Sequence[str]:
        pairs, odd = divmod(len(data), 2)
        rest = "and one letter for the middle" if odd else "and no middle letter"
        return (
            f"{len(data)} letters make a palindrome of {pairs} mirrored pairs {rest}.",
            f"All {len(data)} letters have to be used, in pairs around the middle.",
            f"A palindrome of {len(data)} letters is a half, its mirror image {rest}.",
        )

    @override
    def first_attempt(self, data: str, rng: random.Random) -> Step | None:
        return super().first_attempt(data, rng) if len(data) % 2 else None

    @override
    def in_words(self, data: str, rng: random.Random) -> tuple[str, str] | None:
        if len(data) > 9:
            return None
        counts = collections.Counter(data)
        half = "".join(letter * (n // 2) for letter, n in counts.items())
        middle = "".join(letter for letter, n in counts.items() if n % 2)
        listed = join_words([f"{n} {letter}" for letter, n in counts.items()])
        center = f" The single {middle} goes to the middle." if middle else ""
        opening = rng.choice(("The letters are", "I count them:", "There are"))
        words = (
            f"{opening} {listed}. One of each pair stands in front: {half}.{center} "
            f"Their partners follow in reverse: {half[::-1]}."
        )
        return words, half + middle + half[::-1]

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str | None:
        at = rng.randrange(len(answer) // 2)
        guess = answer[:at] + answer[at + 1] + answer[at] + answer[at + 2 :]
        return None if guess in (answer, guess[::-1]) else guess


_FEW_LETTERS = 16


class PalindromePartitioning(TextTeacher):
    """Lists all partitions of a string into palindromes."""

    task = "rg_palindrome_partitioning"
    forms = ("recursion", "prefixes", "cut_masks", "backtracking")
    pattern = r"Partition the following string into palindromes: ([a-z]+)"
    names: ClassVar = {
        "text": ("text", "s", "string"),
        "out": ("partitions", "result", "found"),
        "part": ("part", "piece", "head"),
    }
    scripts: ClassVar = {
        "recursion": """
            import json


            def partitions($text):
                if not $text:
                    return [[]]
                return [
                    [$text[:i], *rest]
                    for i in range(1, len($text) + 1)
                    if $text[:i] == $text[:i][::-1]
                    for rest in partitions($text[i:])
                ]


            print(json.dumps(partitions("$data")))
            """,
        "prefixes": """
            import json

            $text = "$data"
            # ways[i] holds the partitions of the first i letters
            ways = [[[]]]
            for end in range(1, len($text) + 1):
                ways.append([])
                for start in range(end):
                    $part = $text[start:end]
                    if $part == $part[::-1]:
                        ways[end] += [[*way, $part] for way in ways[start]]
            print(json.dumps(ways[-1]))
            """,
        "cut_masks": """
            import json
            from itertools import product

            $text = "$data"
            $out = []
            for cuts in product((False, True), repeat=len($text) - 1):
                parts = [$text[0]]
                for letter, cut in zip($text[1:], cuts):
                    if cut:
                        parts.append(letter)
                    else:
                        parts[-1] += letter
                if all(p == p[::-1] for p in parts):
                    $out.append(parts)
            print(json.dumps($out))
            """,
        "backtracking": """
            import json

            $text = "$data"
            $out, chosen = [], []


            def extend(start):
                if start == len($text):
                    $out.append(chosen[:])
                for end in range(start + 1, len($text) + 1):
                    $part = $text[start:end]
                    if $part == $part[::-1]:
                        chosen.append($part)
                        extend(end)
                        chosen.pop()


            extend(0)
            print(json.dumps($out))
            """,
    }
    methods: ClassVar = {
        "recursion": "Each palindromic prefix is followed by every partition of the rest.",
        "prefixes": "Dynamic programming over prefixes: the last part is a palindrome.",
        "cut_masks": "I try every set of cuts and keep those with palindromes only.",
        "backtracking": "Backtracking extends a partition by one palindrome at a time.",
    }
    checking = (
        (
            "I check each partition and compare their number with a separate count.",
            "Parts must be palindromes that join to the string; a count says how many exist.",
        ),
        """
        $text = "$data"
        $out = $literal
        valid = all("".join(p) == $text and all(w == w[::-1] for w in p) for p in $out)
        ways = [1]
        for end in range(1, len($text) + 1):
            pieces = (($text[i:end], i) for i in range(end))
            ways.append(sum(ways[i] for w, i in pieces if w == w[::-1]))
        print(valid and len(set(map(tuple, $out))) == len($out) == ways[-1])
        """,
    )
    slip = (
        (
            "I take the longest palindrome at the front, then go on with the rest.",
            'Greedy: from "$data" I cut off the longest palindromic prefix each time.',
        ),
        """
        import json

        $text = "$data"
        parts = []
        while $text:
            end = max(i for i in range(1, len($text) + 1) if $text[:i] == $text[:i][::-1])
            parts.append($text[:end])
            $text = $text[end:]
        print(json.dumps([parts]))
        """,
    )
    exploring = (
        (
            "First the palindromes of at least two letters in the string.",
            "Which longer pieces are palindromes at all? I list them.",
        ),
        """
        $text = "$data"
        n = len($text)
        pieces = [$text[i:j] for i in range(n) for j in range(i + 2, n + 1)]
        print([p for p in pieces if p == p[::-1]])
        """,
    )

    @override
    def openings(self, data: str) -> Sequence[str]:
        return (
            f'All ways to cut "{data}" into palindromes are asked.',
            f'"{data}" has {len(data)} letters, so there are {len(data) - 1} places for a cut.',
            f"Cut into its {len(data)} letters, the string has one partition at least.",
        )

    @override
    def first_attempt(self, data: str, rng: random.Random) -> Step | None:
        longer = (data[i:j] for j in range(len(data) + 1) for i in range(j - 1))
        ambiguous = any(piece == piece[::-1] for piece in longer)
        return super().first_attempt(data, rng) if ambiguous else None

    @override
    def small_case(self, data: str, rng: random.Random) -> Step | None:
        return super().small_case(data, rng) if len(data) > 1 else None

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str | None:
        single = json.dumps([list(data)])
        return None if single == answer else single


TEACHERS: tuple[Teacher[Any], ...] = (PalindromeGeneration(), PalindromePartitioning())
