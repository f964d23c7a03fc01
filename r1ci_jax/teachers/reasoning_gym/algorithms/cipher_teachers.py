"""Teachers of letters that are moved: the Caesar cipher and anagrams."""

import collections
import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher, TextTeacher, read

_COMMON: Final = (
    "THE OF AND TO IN IS IT THAT WAS FOR ON ARE AS WITH HIS THEY AT BE THIS HAVE FROM OR HAD "
    "BY NOT BUT WHAT ALL WERE WE WHEN YOUR CAN SAID AN EACH WHICH SHE DO HOW THEIR IF WILL UP "
    "OUT MANY THEN THEM THESE SO SOME HER WOULD MAKE LIKE HIM HAS MORE NO COULD THAN BEEN WHO "
    "ITS NOW MY MADE OVER DID DOWN ONLY WAY ANY MAY VERY AFTER MOST KNOW MUST YOU HE ONE US ME OWN "
    "NEW WORK GUTENBERG PROJECT TERMS ELECTRONIC COPY OTHER THROUGH UPON SMITH FRANCIS"
)
_FREQUENCIES: Final = dict(
    zip(
        "ETAOINSHRDLCUMWFGYPBVKJXQZ",
        (12, 9, 8, 8, 7, 7, 6, 6, 6, 4, 4, 3, 3, *[2] * 6, 1.5, 1, 0.8, 0.2, 0.15, 0.1, 0.1),
        strict=True,
    )
)


def _likeness(text: str) -> float:
    """Return the logarithm of the likelihood of the letters, and a bonus for common words."""
    letters = sum(math.log(_FREQUENCIES.get(letter, 1.0)) for letter in text if letter != " ")
    return letters + sum(4.0 for word in text.split() if word in _COMMON.split())


class CaesarCipher(TextTeacher):
    """Finds the rotation of an English text."""

    task = "rg_caesar_cipher"
    pattern = r"Decrypt this Caesar cipher text: ([A-Z ]+)\. Provide only"
    forms = ("all_shifts", "letter_frequency", "common_words", "vowels")
    names: ClassVar = {
        "cipher": ("cipher", "text", "message", "encrypted"),
        "shift": ("shift", "k", "key"),
        "plain": ("plain", "candidate", "decoded"),
    }
    scripts: ClassVar = {
        "all_shifts": """
            $cipher = "$data"
            for $shift in range(1, 26):
                $plain = "".join(
                    chr((ord(ch) - 65 - $shift) % 26 + 65) if ch.isalpha() else ch for ch in $cipher
                )
                print($shift, $plain)
            """,
        "letter_frequency": """
            import math

            $cipher = "$data"
            # percentages of A to Z in English
            usual = [8.2, 1.5, 2.8, 4.3, 12.7, 2.2, 2.0, 6.1, 7.0, 0.2, 0.8, 4.0, 2.4,
                     6.7, 7.5, 1.9, 0.1, 6.0, 6.3, 9.1, 2.8, 1.0, 2.4, 0.2, 2.0, 0.1]
            found = []
            for $shift in range(26):
                $plain = "".join(
                    chr((ord(ch) - 65 - $shift) % 26 + 65) if ch.isalpha() else ch for ch in $cipher
                )
                score = sum(math.log(usual[ord(ch) - 65]) for ch in $plain if ch.isalpha())
                found.append((round(score, 1), $shift, $plain))
            for line in sorted(found, reverse=True)[:3]:
                print(*line)
            """,
        "common_words": """
            import string

            $cipher = "$data"
            common = set(\"\"\"THE OF AND TO A IN IS IT YOU THAT HE WAS FOR ON ARE AS I HIS BE
            AT WITH THIS HAVE FROM OR BY NOT BUT WHAT ALL WERE WE WHEN YOUR CAN AN WHICH THEIR IF
            WILL ANY OTHER THEM SO HER HIM HAS NO WHO MY MAY\"\"\".split())
            letters = string.ascii_uppercase
            ranking = []
            for $shift in range(26):
                table = str.maketrans(letters, letters[-$shift:] + letters[:-$shift])
                $plain = $cipher.translate(table)
                vowels = sum(ch in "AEIOU" for ch in $plain)
                ranking.append((sum(w in common for w in $plain.split()), vowels, $plain))
            for hits, vowels, $plain in sorted(ranking, reverse=True)[:4]:
                print(hits, vowels, $plain)
            """,
        "vowels": """
            $cipher = "$data"


            def decode(text, $shift):
                return "".join(
                    chr((ord(ch) - ord("A") - $shift) % 26 + ord("A")) if ch != " " else " "
                    for ch in text
                )


            for $shift in range(1, 26):
                $plain = decode($cipher, $shift)
                without = [w for w in $plain.split() if not set(w) & set("AEIOUY")]
                rare = sum(ch in "JQXZ" for ch in $plain)
                if len(without) <= 1 and rare <= 2:
                    print($shift, $plain)
            """,
    }
    methods: ClassVar = {
        "all_shifts": "There are only 25 other rotations: I print all and read off the English.",
        "letter_frequency": "I score all 26 rotations by English letter frequencies.",
        "common_words": "The right rotation shows words such as THE or OF, so I count those.",
        "vowels": "In English nearly every word has a vowel, which rules out most rotations.",
    }
    exploring = (
        (
            "First the most frequent letters; E, T, A or O should be behind them.",
            "Of the $count letters I look at the commonest, and which rotation would make them E.",
        ),
        """
        from collections import Counter

        $cipher = "$data"
        for letter, n in Counter($cipher.replace(" ", "")).most_common(4):
            print(letter, n, "rotation if it is E:", (ord(letter) - ord("E")) % 26)
        """,
    )
    slip = (
        (
            "E is the most frequent letter of English, so I let the most frequent one here be E.",
            "A quick guess: the commonest of the $count letters stands for E.",
        ),
        """
        from collections import Counter

        $cipher = "$data"
        top = Counter($cipher.replace(" ", "")).most_common(1)[0][0]
        $shift = (ord(top) - ord("E")) % 26
        $plain = "".join(
            chr((ord(ch) - 65 - $shift) % 26 + 65) if ch.isalpha() else ch for ch in $cipher
        )
        print($plain)
        """,
    )

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {"data": data, "count": len(data.replace(" ", ""))}

    @override
    def openings(self, data: str) -> Sequence[str]:
        words = data.split()
        return (
            f"The {len(words)} words are shifted by an unknown rotation of the alphabet.",
            f'A Caesar cipher moves every letter of "{words[0]} ..." by the same number.',
            f"I have to find the rotation that turns these {len(words)} words into English.",
        )

    @override
    def step(self, data: str, form: str, rng: random.Random) -> Step:
        short = form != "all_shifts" or len(data) <= _SHORT_TEXT
        return super().step(data, form if short else "vowels", rng)

    @override
    def first_attempt(self, data: str, rng: random.Random) -> Step | None:
        top = collections.Counter(data.replace(" ", "")).most_common(1)[0][0]
        guessed = _shifted(data, ord("E") - ord(top))
        right = max((_shifted(data, by) for by in range(26)), key=_likeness)
        return super().first_attempt(data, rng) if guessed != right else None

    @override
    def answer(self, data: str, printed: str) -> str:
        lines = [re.sub(r"[^A-Z ]", "", line).strip() for line in printed.splitlines()]
        return max((line for line in lines if line), key=_likeness, default="")

    @override
    def wrong_answer(self, data: str, answer: str, rng: random.Random) -> str:
        return _shifted(answer, rng.choice((1, 2, 25)))


_SHORT_TEXT: Final = 55


def _shifted(text: str, by: int) -> str:
    return "".join(each if each == " " else chr((ord(each) - 65 + by) % 26 + 65) for each in text)


class GroupAnagrams(TemplateTeacher[tuple[str, ...]]):
    """Groups words that have the same letters."""

    task = "rg_group_anagrams"
    forms = ("sorted_letters", "letter_counts", "groupby", "compare_pairs")
    names: ClassVar = {
        "words": ("words", "word_list", "items"),
        "groups": ("groups", "by_key", "classes"),
        "word": ("word", "w"),
    }
    scripts: ClassVar = {
        "sorted_letters": """
            import json
            from collections import defaultdict

            $words = $data
            $groups = defaultdict(list)
            for $word in $words:
                $groups["".join(sorted($word))].append($word)
            print(json.dumps(list($groups.values())))
            """,
        "letter_counts": """
            import json
            from string import ascii_lowercase

            $words = $data
            $groups = {}
            for $word in $words:
                signature = tuple($word.count(letter) for letter in ascii_lowercase)
                $groups.setdefault(signature, []).append($word)
            print(json.dumps(list($groups.values())))
            """,
        "groupby": """
            import json
            from itertools import groupby

            $words = $data
            $words.sort(key=sorted)
            $groups = [list(group) for _, group in groupby($words, key=sorted)]
            print(json.dumps($groups))
            """,
        "compare_pairs": """
            import json
            from collections import Counter

            $words = $data
            $groups = []
            for $word in $words:
                for group in $groups:
                    if Counter(group[0]) == Counter($word):
                        group.append($word)
                        break
                else:
                    $groups.append([$word])
            print(json.dumps($groups))
            """,
    }
    methods: ClassVar = {
        "sorted_letters": "Two words are anagrams if their sorted letters agree, a key for a dict.",
        "letter_counts": "The 26 letter counts are the same for all anagrams of a word.",
        "groupby": "Sorted by their sorted letters, anagrams stand side by side for groupby.",
        "compare_pairs": "Each word joins the first group whose member has the same Counter.",
    }
    checking = (
        (
            "I check that each word is used once, that groups agree inside and differ outside.",
            "Every group must share its sorted letters, no two groups may, no word may be lost.",
        ),
        """
        $words = $data
        $groups = $literal
        keys = [{"".join(sorted($word)) for $word in group} for group in $groups]
        uniform = all(len(key) == 1 for key in keys)
        distinct = len(set().union(*keys)) == len($groups)
        complete = sorted($word for group in $groups for $word in group) == sorted($words)
        print(uniform and distinct and complete)
        """,
    )
    slip = (
        (
            "I group the words by their sorted letters and print the lists.",
            "A dictionary with sorted letters as keys holds the groups of the $count words.",
        ),
        """
        $words = $data
        $groups = {}
        for $word in $words:
            $groups.setdefault("".join(sorted($word)), []).append($word)
        print(list($groups.values()))
        """,
    )
    exploring = (
        (
            "First the sorted letters of some words, to see which agree.",
            "How many groups are there? I count the different sorted spellings.",
        ),
        """
        $words = $data
        for $word in $words[:6]:
            print($word, "".join(sorted($word)))
        print(len({"".join(sorted($word)) for $word in $words}), "groups")
        """,
    )

    @override
    def parse(self, question: str) -> tuple[str, ...]:
        found = read(r"following list of words into anagrams:\n(\[.*\])", question)
        try:
            return tuple(json.loads(found[1]))
        except json.JSONDecodeError as error:
            raise UnreadableQuestionError(found[1][:200]) from error

    @override
    def values(self, data: tuple[str, ...], rng: random.Random) -> Mapping[str, object]:
        words = json.dumps(data) if rng.random() < 0.5 else f'"{" ".join(data)}".split()'
        return {"data": words, "count": len(data)}

    @override
    def openings(self, data: tuple[str, ...]) -> Sequence[str]:
        return (
            f'The {len(data)} words from "{data[0]}" to "{data[-1]}" have to be grouped.',
            f"Among {len(data)} words I look for those made of exactly the same letters.",
            f'Anagrams have equal letters; here are {len(data)} words, "{data[0]}" first.',
        )


TEACHERS: tuple[Teacher[Any], ...] = (
    CaesarCipher(),
    GroupAnagrams(),
)
