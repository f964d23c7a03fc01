"""Reads what a question of date_understanding says about today."""

import dataclasses
import datetime
import re
from collections.abc import Callable
from typing import Final

from r1ci_jax.teachers.teacher import UnreadableQuestionError

_MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_WEEKDAYS: Final = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_ORDINALS: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5}
_NUMBERS: Final = {"one": 1, "two": 2, "three": 3, "five": 5, "ten": 10}

Shift = tuple[str, int]
"""A unit (`days` or `months`) and how many of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Today:
    """A date that is known, how today follows from it, and why."""

    known: datetime.date
    shift: Shift
    name: str
    """What the known date is, as the name of a variable."""
    reason: str


def _month(text: str) -> int:
    try:
        return _MONTHS.index(text.lower()[:3]) + 1
    except ValueError as error:
        raise UnreadableQuestionError(f"{text!r} is no month") from error


def read_date(text: str) -> datetime.date:
    """Read `7/9/1972` or `Sept. 1st, 2021`."""
    if (found := re.fullmatch(r"(\d+)/(\d+)/(\d{4})", text)) is not None:
        return datetime.date(int(found[3]), int(found[1]), int(found[2]))
    if (found := re.fullmatch(r"([A-Z]\w+)\.? (\d+)(?:st|nd|rd|th)?, (\d{4})", text)) is None:
        raise UnreadableQuestionError(f"{text!r} is no date")
    return datetime.date(int(found[3]), _month(found[1]), int(found[2]))


_DATE: Final = r"(?P<date>\d+/\d+/\d{4}|[A-Z]\w+\.? \d+(?:st|nd|rd|th)?, \d{4})"

_RELATIVE: Final[tuple[tuple[str, int, str, str], ...]] = (
    (rf"Today's meeting is rescheduled to .+ tomorrow, {_DATE}\.", -1, "tomorrow", "tomorrow"),
    (rf"Jane scheduled .+ for tomorrow \(\w+, {_DATE}\)\.", -1, "tomorrow", "tomorrow"),
    (rf"Jane booked a flight for tomorrow, {_DATE}\.", -1, "tomorrow", "tomorrow"),
    (rf"Tomorrow is {_DATE}\.", -1, "tomorrow", "tomorrow"),
    (rf"Yesterday was {_DATE}\..*", 1, "yesterday", "yesterday"),
    (rf"Yesterday, {_DATE}, Jane .+", 1, "yesterday", "yesterday"),
    (rf"The day before yesterday was {_DATE}\.", 2, "day_before", "the day before yesterday"),
    (rf"It was {_DATE} a week ago\.", 7, "week_ago", "a week ago"),
    (
        rf"The concert was scheduled to be on {_DATE}, but was delayed by one day to today\.",
        1,
        "scheduled",
        "the day that was planned, one day before the concert",
    ),
    (rf"Today is {_DATE}\.(?: Jane's appointment .+)?", 0, "today", "today"),
    (rf"It is {_DATE} today\.", 0, "today", "today"),
    (rf"Today, {_DATE}, is a day that we will never forget\.", 0, "today", "today"),
    (rf"The current local time is .+ of {_DATE}\.", 0, "today", "today"),
)


def _relative(text: str) -> Today | None:
    for pattern, days, name, said in _RELATIVE:
        if (found := re.fullmatch(pattern, text)) is not None:
            verb = "was" if days > 0 else "is"
            reason = f"{found['date']} {verb} {said}, so today is {_days(days)}."
            if days == 0:
                reason = f"Today is {found['date']}."
            return Today(
                known=read_date(found["date"]), shift=("days", days), name=name, reason=reason
            )
    return None


def _days(days: int) -> str:
    unit = "day" if abs(days) == 1 else "days"
    return f"{abs(days)} {unit} {'later' if days > 0 else 'earlier'}"


def _given(day: datetime.date, reason: str) -> Today:
    """Return a day that is told directly."""
    return Today(known=day, shift=("days", 0), name="today", reason=reason)


def _years_later(day: datetime.date, years: int, name: str, reason: str) -> Today:
    return Today(known=day, shift=("months", 12 * years), name=name, reason=reason)


def _days_later(day: datetime.date, days: int, name: str, reason: str) -> Today:
    return Today(known=day, shift=("days", days), name=name, reason=reason)


def _deadline(found: re.Match[str]) -> Today:
    days = int(found["n"])
    reason = f"The deadline, {found['date']}, is {days} days ahead, so today is that much earlier."
    return _days_later(read_date(found["date"]), -days, "deadline", reason)


def _passed(found: re.Match[str]) -> Today:
    reason = f"Today is {found['n']} days after {found['date']}."
    return _days_later(read_date(found["date"]), int(found["n"]), "last_day", reason)


def _eggs(found: re.Match[str]) -> Today:
    n = found["n"]
    reason = f"{n} eggs at one a day last for {n} days from {found['date']}."
    return _days_later(read_date(found["date"]), int(n), "bought", reason)


def _christmas(found: re.Match[str]) -> Today:
    return _given(
        datetime.date(int(found["year"]), 12, 24),
        f"Christmas Eve of {found['year']} is December 24, {found['year']}.",
    )


def _british(found: re.Match[str]) -> Today:
    day, month, year = map(int, found["uk"].split("/"))
    reason = f"In {found['uk']} the day comes first: day {day} of month {month}."
    return _given(datetime.date(year, month, day), reason)


def _wedding(found: re.Match[str]) -> Today:
    reason = f"The golden anniversary is the 50th: today is 50 years after {found['date']}."
    return _years_later(read_date(found["date"]), 50, "wedding", reason)


def _visits(found: re.Match[str]) -> Today:
    gaps = int(found["n"]) - 1
    return Today(
        known=datetime.date(int(found["year"]), _month(found["month"]), int(found["day"])),
        shift=("months", gaps),
        name="first_visit",
        reason=f"Between visit 1 and visit {found['n']} lie {gaps} months.",
    )


def _disagree(found: re.Match[str]) -> Today:
    who = found["right"]
    text = found["a"] if who == found["first"] else found["b"]
    return _given(read_date(text), f"{who} is right, so today is {text}.")


def _weekday(found: re.Match[str]) -> Today:
    gap = (_WEEKDAYS.index(found["second"]) - _WEEKDAYS.index(found["first"])) % 7
    return _days_later(
        datetime.date(int(found["year"]), 1, 1),
        gap,
        "new_year",
        f"From {found['first']}, January 1, to the next {found['second']} it is {gap} days.",
    )


def _palindrome(found: re.Match[str]) -> Today:
    year = found["year"]
    mirrored = year[::-1]
    return _given(
        datetime.date(int(year), int(mirrored[:2]), int(mirrored[2:])),
        f"MMDD must be {year} read backwards, that is {mirrored}.",
    )


def _years_ago(found: re.Match[str]) -> Today:
    reason = f"{found['date']} was {found['n']} years ago."
    return _years_later(read_date(found["date"]), _NUMBERS[found["n"]], "memory", reason)


def _last_of_month(found: re.Match[str]) -> Today:
    year, month = int(found["year"]), _month(found["month"])
    return _days_later(
        datetime.date(year + month // 12, month % 12 + 1, 1),
        -1,
        "next_month",
        f"The last day of {found['month']} {year} is the day before the next month begins.",
    )


def _last_of_year(found: re.Match[str]) -> Today:
    day = datetime.date(int(found["year"]), 12, 31)
    return _given(day, f"The last day of {day.year} is December 31.")


def _first_of_year(found: re.Match[str]) -> Today:
    day = datetime.date(int(found["year"]), 1, 1)
    return _given(day, f"{day.year} begins on January 1.")


def _quarter(found: re.Match[str]) -> Today:
    quarter = _ORDINALS[found["n"]]
    year = int(found["year"])
    following = datetime.date(year + quarter // 4, quarter % 4 * 3 + 1, 1)
    return _days_later(
        following,
        -1,
        "next_quarter",
        f"The {found['n']} quarter ends on the day before month {following.month} begins.",
    )


def _nth_of_nth(found: re.Match[str]) -> Today:
    day, month = _ORDINALS[found["day"]], _ORDINALS[found["month"]]
    return _given(
        datetime.date(int(found["year"]), month, day),
        f"The {found['day']} day of the {found['month']} month is day {day} of month {month}.",
    )


def _birthday(found: re.Match[str]) -> Today:
    year = int(found["year"])
    born = datetime.date(year, 3, 1) - datetime.timedelta(days=1)
    reason = (
        f"In {year} February had {born.day} days, so Jane was born on the {born.day}th; "
        f"{found['n']} years have passed."
    )
    return _years_later(born, int(found["n"]), "born", reason)


def _football(found: re.Match[str]) -> Today:
    month, day = map(int, found["day"].split("/"))
    return _given(
        datetime.date(int(found["year"]), month, day),
        f"The day is {found['day']} and the year {found['year']}.",
    )


def _second_day(found: re.Match[str]) -> Today:
    reason = (
        f"{found['month']} {found['day']} was the second day at work, so the job began one day "
        f"earlier in {found['year']}; {found['n']} years have passed."
    )
    day = datetime.date(int(found["year"]), _month(found["month"]), int(found["day"]) - 1)
    return _years_later(day, int(found["n"]), "first_day", reason)


def _in_fact(found: re.Match[str]) -> Today:
    year = read_date(found["a"]).year
    return _given(
        datetime.date(year, _month(found["month"]), int(found["day"])),
        f"Today is really {found['month']} {found['day']}, {year}.",
    )


_SPECIAL: Final[tuple[tuple[str, Callable[[re.Match[str]], Today]], ...]] = (
    (r"Today is Christmas Eve of (?P<year>\d+)\.", _christmas),
    (r"In the UK, .+ today is (?P<uk>\d+/\d+/\d+) to them\.", _british),
    (
        rf"Jane and John married on {_DATE}\. Today is their golden wedding anniversary\.",
        _wedding,
    ),
    (
        r"Jane visits the bookstore on the (?P<day>\d+)th of each month starting from the "
        r"(?P<month>\w+) of (?P<year>\d+)\. It is her (?P<n>\d+)th visit .+",
        _visits,
    ),
    (rf"On {_DATE} Jane bought (?P<n>\d+) eggs\. She ate one per day\. .+", _eggs),
    (
        r"(?P<first>\w+) thinks today is (?P<a>[\d/]+), but \w+ thinks today is (?P<b>[\d/]+)\. "
        r"(?P<right>\w+) is correct\.",
        _disagree,
    ),
    (
        r"The first day of (?P<year>\d+) is a (?P<first>\w+), and today is the first "
        r"(?P<second>\w+) of \d+\.",
        _weekday,
    ),
    (rf"Jane quited her job on {_DATE}\. (?P<n>\d+) days have passed since then\.", _passed),
    (r"Today is the palindrome day of (?P<year>\d+), .+", _palindrome),
    (
        rf"{_DATE} is like yesterday to Jane, but that is actually (?P<n>\w+) years ago\.",
        _years_ago,
    ),
    (
        r"Jane is celebrating the last day of (?P<month>\w+) (?P<year>\d+)\.",
        _last_of_month,
    ),
    (rf"The deadline is {_DATE}, which is (?P<n>\d+) days away from now\.", _deadline),
    (r"Today is the (?P<day>\w+) day of the (?P<month>\w+) month of (?P<year>\d+)\.", _nth_of_nth),
    (r"This is the last day of (?P<year>\d+)\.", _last_of_year),
    (r"Today is the first day of (?P<year>\d+)\.", _first_of_year),
    (r"Today is the last day of the (?P<n>\w+) quarter of (?P<year>\d+)\.", _quarter),
    (
        r"Jane was born on the last day of Feburary in (?P<year>\d+)\. Today is her "
        r"(?P<n>\d+)-year-old birthday\.",
        _birthday,
    ),
    (r"Today is (?P<day>\d+/\d+)\. Jane is watching NFL (?P<year>\d+)\.", _football),
    (
        r"Today is (?P<day>\d+/\d+), and it is Jane's second time in the year (?P<year>\d+) .+",
        _football,
    ),
    (
        r"Jane got her job in (?P<year>\d+)\. Today is her (?P<n>\d+)-year work anniversary\. .+ "
        r"on (?P<month>\w+) (?P<day>\d+), her second day .+",
        _second_day,
    ),
    (
        r"Jane thought today is (?P<a>[\d/]+), but today is in fact (?P<month>\w+) "
        r"(?P<day>\d+), .+",
        _in_fact,
    ),
)


def read_today(text: str) -> Today:
    """Read the sentences that tell which day it is.

    Raises:
        UnreadableQuestionError: They have another form.
    """
    if (found := _relative(text)) is not None:
        return found
    for pattern, read in _SPECIAL:
        if (matched := re.fullmatch(pattern, text)) is not None:
            return read(matched)
    raise UnreadableQuestionError(f"an unknown way to tell the day: {text[:80]!r}")
