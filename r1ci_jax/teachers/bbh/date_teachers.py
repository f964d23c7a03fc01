"""The teacher of date_understanding."""

import calendar
import dataclasses
import datetime
import random
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import dict_literal, match, read_body, read_options, write
from r1ci_jax.teachers.bbh.date_readings import Shift, Today, read_today
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError

_FORMAT: Final = "%m/%d/%Y"
_ASKED: Final[dict[str, Shift]] = {
    "today": ("days", 0),
    "tomorrow": ("days", 1),
    "24 hours later": ("days", 1),
    "yesterday": ("days", -1),
    "one week from today": ("days", 7),
    "one week ago from today": ("days", -7),
    "10 days ago": ("days", -10),
    "a month ago": ("months", -1),
    "one year ago from today": ("months", -12),
}

_MONTH_SHIFT: Final = '''
def shift_months(day, months):
    """The same day of another month, or its last day where there is no such day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))

'''

_ORDINAL_SHIFT: Final = '''
def shift_months(day, months):
    """The same day of another month; a day that it lacks becomes its last one."""
    index = 12 * day.year + day.month - 1 + months
    first = date(index // 12, index % 12 + 1, 1).toordinal()
    following = date((index + 1) // 12, (index + 1) % 12 + 1, 1).toordinal()
    return date.fromordinal(min(first + day.day, following) - 1)

'''

_BY_HAND_DAYS: Final = """
def month_length(year, month):
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]

"""
_BY_HAND_ADD: Final = """
def add_days(year, month, day, days):
    day += days
    while day > month_length(year, month):
        day -= month_length(year, month)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    while day < 1:
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
        day += month_length(year, month)
    return year, month, day

"""
_BY_HAND_MONTHS: Final = """
def add_months(year, month, day, months):
    year, month = divmod(year * 12 + month - 1 + months, 12)
    month += 1
    return year, month, min(day, month_length(year, month))

"""

_CHECK_DAYS: Final = """
from datetime import datetime

claimed = datetime.strptime("$answer", "%m/%d/%Y")
today = datetime($today_args)
print((claimed - today).days == $asked_days)
"""
_CHECK_MONTHS: Final = """
from datetime import datetime

claimed = datetime.strptime("$answer", "%m/%d/%Y")
today = datetime($today_args)
months = (claimed.year - today.year) * 12 + claimed.month - today.month
print(months == $asked_months and claimed.day <= today.day)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DateQuestion:
    """What is known of today, and which date is asked for."""

    today: Today
    subject: str
    options: dict[str, str]

    @property
    def shift(self) -> Shift:
        """The way from today to the date that is asked for."""
        return _ASKED[self.subject]

    def dates(self) -> tuple[datetime.date, datetime.date]:
        """Return today and the date that is asked for."""
        today = move(self.today.known, self.today.shift)
        return today, move(today, self.shift)


def move(day: datetime.date, shift: Shift) -> datetime.date:
    """Return the date that is so many days or months later."""
    unit, n = shift
    if unit == "days":
        return day + datetime.timedelta(days=n)
    year, month = divmod(day.year * 12 + day.month - 1 + n, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return datetime.date(year, month + 1, min(day.day, last))


def _args(day: datetime.date) -> str:
    return f"{day.year}, {day.month}, {day.day}"


class DateUnderstanding(Teacher[DateQuestion]):
    """Finds today and then the date that is asked for."""

    task = "bbh_date_understanding"
    forms = ("datetime", "by hand", "ordinals", "test the options")

    @override
    def parse(self, question: str) -> DateQuestion:
        body = read_body(question)
        found = match(r"(.+) What is the date (.+) in MM/DD/YYYY\?", body)
        if found[2] not in _ASKED:
            raise UnreadableQuestionError(f"an unknown date: {found[2]!r}")
        try:
            today = read_today(found[1])
        except ValueError as error:
            raise UnreadableQuestionError(f"no date in {found[1]!r}") from error
        data = DateQuestion(today=today, subject=found[2], options=read_options(question))
        if f"{data.dates()[1]:{_FORMAT}}" not in data.options.values():
            raise UnreadableQuestionError("what the question says contradicts all of its options")
        return data

    @override
    def step(self, data: DateQuestion, form: str, rng: random.Random) -> Step:
        target = rng.choice(("answer", "target", "wanted", "result"))
        if form == "by hand":
            code = self._by_hand(data, target)
        elif form == "ordinals":
            code = self._script(data, target, ordinals=True)
        else:
            code = self._script(data, target, ordinals=False)
        if form == "test the options":
            code = code.replace(
                f'print({target}.strftime("{_FORMAT}"))',
                f"options = {dict_literal(data.options)}\n"
                f"for letter, text in options.items():\n"
                f'    if text == {target}.strftime("{_FORMAT}"):\n'
                "        print(letter)",
            )
        method = {
            "datetime": (
                "The datetime module takes care of the lengths of the months.",
                "Date arithmetic does the rest.",
            ),
            "by hand": (
                "The calendar is simple enough to write down: month lengths and the leap-year "
                "rule.",
                "I carry over the month and year ends myself.",
            ),
            "ordinals": (
                "With dates as day numbers, moving by days is addition.",
                "Day numbers (ordinals) turn this into a sum.",
            ),
            "test the options": (
                "I compute the date and look for it among the options.",
                f"Then I compare with the {len(data.options)} options.",
            ),
        }[form]
        asked = rng.choice(
            ("Asked for is the date", "I need the date", "The question wants the date")
        )
        wanted = f"{asked} {data.subject}."
        if not data.shift[1]:
            wanted = "The question wants this very day as MM/DD/YYYY."
        words = f"{data.today.reason} {wanted} {rng.choice(method)}"
        return Step(words=words, code=code)

    def _script(self, data: DateQuestion, target: str, *, ordinals: bool) -> str:
        shifts = (data.today.shift, data.shift)
        lines = [f"{data.today.name} = date({_args(data.today.known)})"]
        source = data.today.name
        for (unit, n), name in zip(shifts, ("today", target), strict=True):
            if unit == "months":
                lines.append(f"{name} = shift_months({source}, {n})")
            elif n and ordinals:
                sign = "+" if n > 0 else "-"
                lines.append(f"{name} = date.fromordinal({source}.toordinal() {sign} {abs(n)})")
            elif n:
                sign = "+" if n > 0 else "-"
                lines.append(f"{name} = {source} {sign} timedelta(days={abs(n)})")
            elif name != source:
                lines.append(f"{name} = {source}")
            source = name
        if ordinals and not any(n for _, n in shifts):
            lines.insert(1, f"number = {data.today.name}.toordinal()  # days since 12/31/0000")
            lines[2] = f"{target} = date.fromordinal(number)"
        lines.append(f'print({target}.strftime("{_FORMAT}"))')
        months = any(unit == "months" for unit, _ in shifts)
        days = not ordinals and any(unit == "days" and n for unit, n in shifts)
        head = "import calendar\n" if months and not ordinals else ""
        head += "from datetime import date" + (", timedelta\n\n" if days else "\n\n")
        shift = _ORDINAL_SHIFT if ordinals else _MONTH_SHIFT
        return head + (shift + "\n" if months else "") + "\n".join(lines)

    def _by_hand(self, data: DateQuestion, target: str) -> str:
        shifts = (data.today.shift, data.shift)
        lines = [f"{data.today.name} = ({_args(data.today.known)})"]
        source = data.today.name
        for (unit, n), name in zip(shifts, ("today", target), strict=True):
            if n:
                lines.append(f"{name} = add_{unit}(*{source}, {n})")
            elif name != source:
                lines.append(f"{name} = {source}")
            source = name
        lines += [f"year, month, day = {target}", 'print(f"{month:02}/{day:02}/{year}")']
        used = {unit for unit, n in shifts if n}
        blocks = [_BY_HAND_DAYS] if used else []
        blocks += [_BY_HAND_ADD] if "days" in used else []
        blocks += [_BY_HAND_MONTHS] if "months" in used else []
        return (
            "\n".join(block.lstrip("\n") for block in blocks)
            + ("\n" if blocks else "")
            + "\n".join(lines)
        )

    @override
    def answer(self, data: DateQuestion, printed: str) -> str:
        text = printed.strip()
        if text in data.options:
            return f"({text})"
        letters = [letter for letter, option in data.options.items() if option == text]
        return f"({letters[0]})" if letters else text

    @override
    def check(self, data: DateQuestion, answer: str, rng: random.Random) -> Step | None:
        text = data.options.get(answer.strip("()"), answer)
        today, _ = data.dates()
        unit, n = data.shift
        if data.today.shift[1]:
            return None  # Today is itself a result, which the check would take for granted.
        values = {
            "answer": text,
            "today_args": _args(today),
            "asked_days": n,
            "asked_months": n,
            "asked": data.subject,
        }
        words = (
            "I measure the distance between $answer and today; it must be that of the question: "
            "$asked.",
            "The difference of the two dates tells whether $answer is right for: $asked.",
        )
        return write(rng, words, _CHECK_DAYS if unit == "days" else _CHECK_MONTHS, values)

    @override
    def small_case(self, data: DateQuestion, rng: random.Random) -> Step | None:
        if not data.today.shift[1]:
            return None
        without = dataclasses.replace(data, subject="today")
        code = self._script(without, "today", ordinals=False)
        code = code.replace(f'print(today.strftime("{_FORMAT}"))', 'print("today:", today)')
        code = code.replace("\ntoday = today", "")
        words = (
            f"First today's date. {data.today.reason}",
            f"{data.today.reason} I compute this day before anything else.",
        )
        return Step(words=rng.choice(words), code=code)

    @override
    def first_attempt(self, data: DateQuestion, rng: random.Random) -> Step:
        code = self._script(data, "answer", ordinals=False)
        words = f"{data.today.reason} From there I go to the date {data.subject}."
        return Step(words=words, code=code.replace(_FORMAT, "%d/%m/%y"))

    @override
    def in_words(self, data: DateQuestion, rng: random.Random) -> tuple[str, str] | None:
        today, target = data.dates()
        opening = rng.choice(("So it is", "That makes today", "Today is therefore"))
        told = f"{data.today.reason} {opening} {today:{_FORMAT}}."
        if data.shift[1]:
            told += f" The date {data.subject} is {target:{_FORMAT}}."
        return told, self.answer(data, f"{target:{_FORMAT}}")

    @override
    def wrong_answer(self, data: DateQuestion, answer: str, rng: random.Random) -> str:
        return rng.choice([f"({k})" for k in data.options if k != answer.strip("()")])


TEACHERS: tuple[Teacher[Any], ...] = (DateUnderstanding(),)
