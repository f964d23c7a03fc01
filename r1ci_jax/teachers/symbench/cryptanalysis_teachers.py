"""Teacher of cryptanalysis (a password that fits all feedback)."""

import itertools
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import pick, script, step

_LOCK: Final = re.compile(
    r"password of ([0-9]+) digits \(0 to 9\) followed by ([0-9]+) letters \(A to ([A-Z])\)"
)
_COUNTS: Final = r"([0-9]) placed, ([0-9]) misplaced, ([0-9]) absent(?: \((too [a-z]+)\))?"
_TRY: Final = re.compile(rf"^([0-9]+)([A-Z]+): digits {_COUNTS}; letters {_COUNTS}$", re.MULTILINE)
_REMARKS: Final = {"too large": 1, "too late": 1, "too small": -1, "too early": -1}

Feedback = tuple[int, ...]
"""Placed, misplaced, and where the puzzle makes remarks 1 (absent signs too large), -1 or 0."""


_REMARK_WORDS: Final = (
    "",
    " The remarks on absent signs are part of the feedback.",
    " A remark is one more number: 1, -1 or 0.",
    " The remarks count as well.",
)


class Lock(NamedTuple):
    """The tries at a password: digits, their feedback, letters, their feedback."""

    digits: int
    letters: int
    last: str
    remarks: bool
    tries: tuple[tuple[str, Feedback, str, Feedback], ...]


_JUDGE: Final = """
        def $judge(guess, secret):
            placed = sum(g == s for g, s in zip(guess, secret))
            misplaced = sum(g in secret for g in guess) - placed
            return placed, misplaced
"""
_JUDGE_REMARKS: Final = """
        def $judge(guess, secret):
            placed = sum(g == s for g, s in zip(guess, secret))
            absent = [g for g in guess if g not in secret]
            remark = 0
            if absent:
                remark = (min(absent) > max(secret)) - (max(absent) < min(secret))
            return placed, len(guess) - placed - len(absent), remark
"""
_LOCK_DATA: Final = """
        # For each try: placed, misplaced$legend
        $digit_tries = $digit_rows
        $letter_tries = $letter_rows
"""
_IMPORT: Final = """
        from itertools import permutations
"""
_LOCK_FORMS: Final = {
    "filter": """
        def $search(signs, length, tries):
            return ["".join(word) for word in permutations(signs, length)
                    if all($judge(guess, word) == result for guess, result in tries.items())]

        $codes = $search("0123456789", $digits, $digit_tries)
        $words = $search("$alphabet", $letters, $letter_tries)
        print(*[code + word for code in $codes for word in $words])
    """,
    "elimination": """
        $codes = list(permutations("0123456789", $digits))
        for guess, result in $digit_tries.items():
            $codes = [code for code in $codes if $judge(guess, code) == result]
        $words = list(permutations("$alphabet", $letters))
        for guess, result in $letter_tries.items():
            $words = [word for word in $words if $judge(guess, word) == result]
        assert len($codes) == len($words) == 1
        print("".join($codes[0] + $words[0]))
    """,
    "recursion": """
        def $search(prefix, signs, length, tries):
            if len(prefix) == length:
                if all($judge(guess, prefix) == result for guess, result in tries.items()):
                    yield prefix
                return
            for sign in signs:
                # No sign comes twice, and none may be in place more often than the tries say.
                if sign not in prefix and all(
                    $judge(guess, prefix + sign)[0] <= result[0] for guess, result in tries.items()
                ):
                    yield from $search(prefix + sign, signs, length, tries)

        code = next($search("", "0123456789", $digits, $digit_tries))
        word = next($search("", "$alphabet", $letters, $letter_tries))
        print(code + word)
    """,
    "grouping": """
        def $search(signs, length, tries):
            by_results = {}
            for word in permutations(signs, length):
                results = tuple($judge(guess, word) for guess in tries)
                by_results.setdefault(results, []).append("".join(word))
            return by_results[tuple(tries.values())]

        ($codes,) = $search("0123456789", $digits, $digit_tries)
        ($words,) = $search("$alphabet", $letters, $letter_tries)
        print($codes + $words)
    """,
}
_LOCK_WORDS: Final = {
    "filter": "Digits and letters are judged apart, so I filter all arrangements of each by the "
    "feedback.",
    "elimination": "I start with every arrangement and strike out, try by try, what would have got "
    "another feedback.",
    "recursion": "The code is built sign by sign and given up as soon as too many signs are in "
    "place.",
    "grouping": "I group all arrangements by the feedback they would give and look up the group "
    "that was seen.",
}


class Cryptanalysis(Teacher[Lock]):
    """Finds the password that fits all feedback."""

    task = "cryptanalysis"
    forms = tuple(_LOCK_FORMS)

    @override
    def parse(self, question: str) -> Lock:
        head, tries = _LOCK.search(question), _TRY.findall(question)
        if head is None or not tries:
            raise UnreadableQuestionError("no lock with tries")
        remarks = "A remark follows" in question
        rows = tuple(
            (row[0], _feedback(row[2:6], remarks), row[1], _feedback(row[6:10], remarks))
            for row in tries
        )
        return Lock(int(head[1]), int(head[2]), head[3], remarks, rows)

    def _fields(self, data: Lock, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            judge="judge feedback rate compare",
            search="search fitting solve candidates",
            digit_tries="digit_tries number_feedback tried_digits",
            letter_tries="letter_tries letter_feedback tried_letters",
            codes="codes numbers digit_parts",
            words="words endings letter_parts",
        )
        return names | {
            "legend": ", remark (1: too large or late, -1: too small or early)"
            if data.remarks
            else "",
            "digit_rows": _rows((row[0], row[1]) for row in data.tries),
            "letter_rows": _rows((row[2], row[3]) for row in data.tries),
            "digits": data.digits,
            "letters": data.letters,
            "alphabet": "".join(map(chr, range(ord("A"), ord(data.last) + 1))),
        }

    @override
    def step(self, data: Lock, form: str, rng: random.Random) -> Step:
        opening = rng.choice(
            [
                f"A password of {data.digits} different digits and {data.letters} different "
                f"letters has to fit {len(data.tries)} tries.",
                f"The feedback of {len(data.tries)} tries determines the {data.digits} digits and "
                f"{data.letters} letters (A to {data.last}).",
                f"There are few enough arrangements of {data.digits} digits, and of {data.letters} "
                f"letters up to {data.last}, to test them all.",
            ]
        )
        remark = rng.choice(_REMARK_WORDS) if data.remarks else ""
        imports = "" if form == "recursion" else _IMPORT
        judge = _JUDGE_REMARKS if data.remarks else _JUDGE
        template = imports + _LOCK_DATA + judge + _LOCK_FORMS[form]
        return Step(
            words=f"{opening} {_LOCK_WORDS[form]}{remark}",
            code=script(template, **self._fields(data, rng)),
        )

    @override
    def check(self, data: Lock, answer: str, rng: random.Random) -> Step:
        code = """
        digits, letters = "$code", "$word"
        fits = all($judge(guess, digits) == result for guess, result in $digit_tries.items())
        fits = fits and all($judge(g, letters) == result for g, result in $letter_tries.items())
        print(fits)
        """
        judge = _JUDGE_REMARKS if data.remarks else _JUDGE
        fields = self._fields(data, rng)
        fields |= {"code": answer[: data.digits], "word": answer[data.digits :]}
        return step(
            rng,
            [
                f"I judge the {len(data.tries)} tries against this password; each feedback "
                "must come out as given.",
                f"With {answer} as the password every try must get the feedback of the question.",
            ],
            script(_LOCK_DATA + judge + code, **fields),
        )

    @override
    def small_case(self, data: Lock, rng: random.Random) -> Step:
        fields = self._fields(data, rng)
        code = (
            _IMPORT
            + _LOCK_DATA.replace("        $letter_tries = $letter_rows\n", "")
            + (_JUDGE_REMARKS if data.remarks else _JUDGE)
            + """
        $codes = list(permutations("0123456789", $digits))
        for guess, result in $digit_tries.items():
            $codes = [code for code in $codes if $judge(guess, code) == result]
            print(guess, "leaves", len($codes))
        """
        )
        return step(
            rng,
            [
                f"First the {data.digits} digits alone: how far does each try narrow them down?",
                "The digits are the smaller half; I look at how many fit after each try.",
            ],
            script(code, **fields),
        )

    @override
    def first_attempt(self, data: Lock, rng: random.Random) -> Step | None:
        if not data.remarks:
            return None
        bare = tuple((d, f[:2], w, g[:2]) for d, f, w, g in data.tries)
        plain = data._replace(remarks=False, tries=bare)
        codes = _fitting("0123456789", data.digits, [(row[0], row[1]) for row in bare])
        if len(codes) < 2:
            return None
        template = _IMPORT + _LOCK_DATA + _JUDGE + _LOCK_FORMS["elimination"]
        return Step(
            words="The numbers of placed and misplaced signs should determine the password.",
            code=script(template, **self._fields(plain, rng)),
        )

    @override
    def wrong_answer(self, data: Lock, answer: str, rng: random.Random) -> str:
        # The solution is unique, so any other password is wrong.
        if rng.random() < 0.5:
            return answer[1] + answer[0] + answer[2:]
        return answer[:-2] + answer[-1] + answer[-2]


def _feedback(parts: tuple[str, ...], remarks: bool) -> Feedback:
    placed, misplaced, _, remark = parts
    counts = (int(placed), int(misplaced))
    return (*counts, _REMARKS.get(remark, 0)) if remarks else counts


def _rows(tries: Any) -> str:
    return "{" + ", ".join(f'"{guess}": {result}' for guess, result in tries) + "}"


def _fitting(signs: str, length: int, tries: list[tuple[str, Feedback]]) -> list[tuple[str, ...]]:
    """Return the arrangements that fit the numbers of placed and misplaced signs."""

    def judge(guess: str, word: tuple[str, ...]) -> Feedback:
        placed = sum(map(str.__eq__, guess, word))
        return placed, sum(sign in word for sign in guess) - placed

    return [
        word
        for word in itertools.permutations(signs, length)
        if all(judge(guess, word) == result for guess, result in tries)
    ]


TEACHERS: tuple[Teacher[Any], ...] = (Cryptanalysis(),)
