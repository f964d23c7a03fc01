"""The teacher of date_understanding."""

import calendar
import dataclasses
import datetime
import random
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import match, read_body, read_options
from r1ci_jax.teachers.bbh.date_readings import Shift, Today, read_today
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import count_noun, dict_literal, sentence

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
$loops    return year, month, day

"""
_BY_HAND_FORWARD: Final = """\
    while day > month_length(year, month):
        day -= month_length(year, month)
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
"""
_BY_HAND_BACK: Final = """\
    while day < 1:
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
        day += month_length(year, month)
"""
_BY_HAND_MONTHS: Final = """
def add_months(year, month, day, months):
    year, month = divmod(year * 12 + month - 1 + months, 12)
    month += 1
    return year, month, min(day, month_length(year, month))

"""

_METHODS: Final[dict[str, tuple[str, ...]]] = {
    "datetime": (
        "The datetime module takes care of the lengths of the months.",
        "Date arithmetic does the rest.",
    ),
    "by hand": (
        "The calendar is simple enough to write down: month lengths and the leap-year rule.",
        "I carry over the month and year ends myself.",
    ),
    "ordinals": (
        "With dates as day numbers, moving by days is addition.",
        "Day numbers (ordinals) turn this into a sum.",
    ),
    "test the options": (
        "I compute the date and look for it among the options.",
        "Then I compare with the options, of which only one can be this date.",
    ),
}
_PRINT: Final = f'strftime("{_FORMAT}")'
_TODAY_PRINTED: Final = (
    'print("today:", today)',
    'print("Today is", today)',
    "print(today.isoformat())",
    f"print(today.{_PRINT})",
    f'print("today:", today.{_PRINT})',
    'print(f"today is {today:%A, %B %d, %Y}")',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DateQuestion:
    """What is known of today, and which date is asked for."""

    today: Today
    subject: str
    options: dict[str, str]
    shift: Shift
    """The way from today to the date that is asked for."""

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


def _plus(n: int, value: str) -> str:
    """Write `+ value` or `- value`, with $n in it for the number without its sign."""
    return f"{'+' if n > 0 else '-'} {value.replace('$n', str(abs(n)))}"


def _way(shift: Shift) -> str:
    """Say a shift in words: `7 days back`."""
    unit, n = shift
    return f"{count_noun(abs(n), unit.removesuffix('s'))} {'on' if n > 0 else 'back'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Names:
    """Names of the variables of a script."""

    known: str
    target: str


def _script(data: DateQuestion, names: _Names, *, ordinals: bool) -> str:
    """Write the way from the known date to the one that is asked for, with the datetime module."""
    shifts = (data.today.shift, data.shift)
    lines = [f"{names.known} = date({_args(data.today.known)})"]
    source = names.known
    for (unit, n), name in zip(shifts, ("today", names.target), strict=True):
        if unit == "months":
            lines.append(f"{name} = shift_months({source}, {n})")
        elif n and ordinals:
            lines.append(f"{name} = date.fromordinal({source}.toordinal() {_plus(n, '$n')})")
        elif n:
            lines.append(f"{name} = {source} {_plus(n, 'timedelta(days=$n)')}")
        elif name != source:
            lines.append(f"{name} = {source}")
        source = name
    if ordinals and not any(n for _, n in shifts):
        lines[1:] = [
            f"number = {names.known}.toordinal()  # days since 12/31/0000",
            f"{names.target} = date.fromordinal(number)",
        ]
    lines.append(f"print({names.target}.{_PRINT})")
    months = any(unit == "months" for unit, _ in shifts)
    days = not ordinals and any(unit == "days" and n for unit, n in shifts)
    head = "import calendar\n" if months and not ordinals else ""
    head += "from datetime import date" + (", timedelta\n\n" if days else "\n\n")
    shift = _ORDINAL_SHIFT if ordinals else _MONTH_SHIFT
    return head + (shift + "\n" if months else "") + "\n".join(lines)


def _by_hand(data: DateQuestion, names: _Names) -> str:
    """Write the way without the datetime module."""
    shifts = (data.today.shift, data.shift)
    lines = [f"{names.known} = ({_args(data.today.known)})"]
    source = names.known
    for (unit, n), name in zip(shifts, ("today", names.target), strict=True):
        if n:
            lines.append(f"{name} = add_{unit}(*{source}, {n})")
        elif name != source:
            lines.append(f"{name} = {source}")
        source = name
    lines += [f"year, month, day = {names.target}", 'print(f"{month:02}/{day:02}/{year}")']
    used = {unit for unit, n in shifts if n}
    days = [n for unit, n in shifts if unit == "days"]
    loops = _BY_HAND_FORWARD * any(n > 0 for n in days) + _BY_HAND_BACK * any(n < 0 for n in days)
    blocks = [_BY_HAND_DAYS] if used else []
    blocks += [_BY_HAND_ADD.replace("$loops", loops)] if "days" in used else []
    blocks += [_BY_HAND_MONTHS] if "months" in used else []
    return (
        "\n".join(block.lstrip("\n") for block in blocks)
        + ("\n" if blocks else "")
        + "\n".join(lines)
    )


def _test(data: DateQuestion, text: str, names: _Names) -> str:
    """Write the test that a date has the distance from the known one that the question tells."""
    shifts = (data.today.shift, data.shift)
    months = [n for unit, n in shifts if unit == "months"]
    first, last = names.known, names.target
    lines = [
        f'{last} = datetime.strptime("{text}", "{_FORMAT}")',
        f"{first} = datetime({_args(data.today.known)})",
    ]
    if not months:
        total = " ".join(
            str(n) if not k else _plus(n, "$n") for k, n in enumerate(n for _, n in shifts if n)
        )
        lines.append(f"print(({last} - {first}).days == {total})")
        return "from datetime import datetime\n\n" + "\n".join(lines)
    days = [n for unit, n in shifts if unit == "days" and n]
    if days and shifts[0][0] == "days":
        lines.append(f"today = {first} {_plus(days[0], 'timedelta(days=$n)')}")
        first = "today"
    elif days:
        lines.append(f"today = {last} {_plus(-days[0], 'timedelta(days=$n)')}")
        last = "today"
    lines += [
        f"months = ({last}.year - {first}.year) * 12 + {last}.month - {first}.month",
        f"print(months == {sum(months)} and {last}.day <= {first}.day)",
    ]
    imported = "datetime, timedelta" if days else "datetime"
    return f"from datetime import {imported}\n\n" + "\n".join(lines)


def _in_days(shift: Shift) -> Shift:
    """Return a shift by months as one by days, with a year of 365 days and a month of 30."""
    unit, n = shift
    if unit == "days":
        return shift
    return "days", n // 12 * 365 if n % 12 == 0 else n * 30


def _slips(data: DateQuestion) -> list[tuple[str, DateQuestion]]:
    """Return words, and what a hasty reader makes of the question."""
    today = data.today
    rough = dataclasses.replace(
        data,
        today=dataclasses.replace(today, shift=_in_days(today.shift)),
        shift=_in_days(data.shift),
    )
    reverse = dataclasses.replace(today, shift=(today.shift[0], -today.shift[1]))
    known = f"{today.known:{_FORMAT}}"
    return [
        (f"{today.reason} I take a month as 30 days and a year as 365.", rough),
        (
            f"{today.reason} I print this day.",
            dataclasses.replace(data, shift=_ASKED["today"]),
        ),
        (
            f"From {known} I go to today, and from there to the date {data.subject}.",
            dataclasses.replace(data, today=reverse),
        ),
    ]


def _month_end(day: datetime.date, shift: Shift) -> str:
    """Tell the length of the month whose end lies on the way of at most a month of days."""
    other = move(day, shift)
    early, late = min(day, other), max(day, other)
    if shift[0] == "months" or (early.year, early.month) == (late.year, late.month):
        return ""
    length = calendar.monthrange(early.year, early.month)[1]
    return f" {early:%B} {early.year} has {length} days."


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
        return DateQuestion(
            today=today,
            subject=found[2],
            shift=_ASKED[found[2]],
            options=read_options(question),
        )

    def _names(self, data: DateQuestion, rng: random.Random) -> _Names:
        return _Names(
            known=rng.choice((data.today.name, data.today.name, "start", "given")),
            target=rng.choice(("answer", "target", "wanted", "result", "asked")),
        )

    @override
    def step(self, data: DateQuestion, form: str, rng: random.Random) -> Step:
        names = self._names(data, rng)
        if form == "by hand":
            code = _by_hand(data, names)
        else:
            code = _script(data, names, ordinals=form == "ordinals")
        if form == "test the options":
            code = code.replace(
                f"print({names.target}.{_PRINT})",
                f"options = {dict_literal(data.options)}\n"
                f"for letter, text in options.items():\n"
                f"    if text == {names.target}.{_PRINT}:\n"
                "        print(letter)",
            )
        asked = rng.choice(("The question asks for", "I need", "What is wanted is"))
        wanted = f"{asked} the date {data.subject}."
        if not data.shift[1]:
            wanted = "The question wants this very day as MM/DD/YYYY."
        return Step(
            words=sentence(data.today.reason, wanted, rng.choice(_METHODS[form])), code=code
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
        steps = [_way(shift) for shift in (data.today.shift, data.shift) if shift[1]]
        if not steps:
            return None
        text = data.options.get(answer.strip("()"), answer)
        known = f"{data.today.known:{_FORMAT}}"
        words = (
            f"I measure how far {text} is from {known}; it must be {' and '.join(steps)}.",
            f"From {known} to {text} the way must be {', then '.join(steps)}, as in the question.",
        )
        names = _Names(
            known=rng.choice((data.today.name, "start", "given", "origin")),
            target=rng.choice(("claimed", "proposed", "candidate", "chosen")),
        )
        return Step(words=rng.choice(words), code=_test(data, text, names))

    @override
    def small_case(self, data: DateQuestion, rng: random.Random) -> Step | None:
        if not data.today.shift[1]:
            return None
        without = dataclasses.replace(data, shift=_ASKED["today"])
        names = _Names(known=self._names(data, rng).known, target="today")
        code = _script(without, names, ordinals=rng.random() < 0.3)
        code = code.replace(f"print(today.{_PRINT})", rng.choice(_TODAY_PRINTED))
        words = (
            f"First today's date. {data.today.reason}",
            f"{data.today.reason} I compute this day before anything else.",
        )
        return Step(words=rng.choice(words), code=code.replace("\ntoday = today", ""))

    @override
    def first_attempt(self, data: DateQuestion, rng: random.Random) -> Step:
        names = self._names(data, rng)
        right = data.dates()[1]
        wrong = [(words, slip) for words, slip in _slips(data) if slip.dates()[1] != right]
        if not wrong or rng.random() < 0.2:
            code = _script(data, names, ordinals=False).replace(_FORMAT, "%d/%m/%y")
            words = f"{data.today.reason} I compute the date {data.subject} from it."
            return Step(words=words, code=code)
        words, slip = rng.choice(wrong)
        return Step(words=words, code=_script(slip, names, ordinals=False))

    @override
    def in_words(self, data: DateQuestion, rng: random.Random) -> tuple[str, str] | None:
        if any(unit == "days" and abs(n) > 31 for unit, n in (data.today.shift, data.shift)):
            return None
        today, target = data.dates()
        told = data.today.reason
        if data.today.shift[1]:
            opening = rng.choice(("So it is", "That makes today", "Today is therefore"))
            told += f"{_month_end(data.today.known, data.today.shift)} {opening} {today:{_FORMAT}}."
        if data.shift[1]:
            told += (
                f"{_month_end(today, data.shift)} The date {data.subject} is {target:{_FORMAT}}."
            )
        elif not data.today.shift[1]:
            told += f" Written as MM/DD/YYYY this is {target:{_FORMAT}}."
        return told, self.answer(data, f"{target:{_FORMAT}}")

    @override
    def wrong_answer(self, data: DateQuestion, answer: str, rng: random.Random) -> str:
        return rng.choice([f"({k})" for k in data.options if k != answer.strip("()")])


TEACHERS: tuple[Teacher[Any], ...] = (DateUnderstanding(),)
