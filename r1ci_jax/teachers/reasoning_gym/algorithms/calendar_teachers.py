"""Teacher of calendar arithmetic: weekdays, offsets, counts of days and recurring events."""

import calendar
import dataclasses
import datetime
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import Pattern, TemplateTeacher, count_noun, require

_DAYS: Final = tuple(calendar.day_name)
_MONTHS: Final = tuple(calendar.month_name)[1:]
_ORDINALS: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": 0}
_DAY = f"({'|'.join(_DAYS)})"
_MONTH = f"({'|'.join(_MONTHS)})"
_DATE = rf"{_MONTH} (\d+)(?:, (\d+))?"
_ORDINAL = f"({'|'.join(_ORDINALS)})"
_COUNTS: Final = ("count", "business")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalendarQuestion:
    """What is asked, the dates in the question, and the number or weekday."""

    kind: str
    dates: tuple[datetime.date, ...]
    offset: int = 0
    weekday: int = 0
    ordinal: int = 0
    """Of a recurring event; 0 is the last one of the month."""


def _date(month: str, day: str, year: str | int) -> datetime.date:
    try:
        return datetime.date(int(year), _MONTHS.index(month) + 1, int(day))
    except ValueError as error:
        raise UnreadableQuestionError(f"{month} {day}, {year}") from error


def _recurring(text: str) -> CalendarQuestion | None:
    if found := re.search(rf"the {_ORDINAL} {_DAY} (?:of|in) {_MONTH} (\d+)", text):
        ordinal, day, month, year = found.groups()
    elif found := re.search(rf"[Ii]n {_MONTH} (\d+), .* on the {_ORDINAL} {_DAY},", text):
        month, year, ordinal, day = found.groups()
    else:
        return None
    return CalendarQuestion(
        kind="recurring",
        dates=(_date(month, "1", year),),
        weekday=_DAYS.index(day),
        ordinal=_ORDINALS[ordinal],
    )


def _first_day(text: str) -> CalendarQuestion | None:
    if re.search(r"\d{4}", text) or not re.search(r"first day of the year|January 1", text):
        return None
    days, dates = re.findall(_DAY, text), re.findall(_DATE, text)
    require(bool(days and dates), text)
    # The year is not named: one without a leap day is taken.
    month, number, _ = dates[-1]
    day = _date(month, number, 2023)
    return CalendarQuestion(kind="first_day", dates=(day,), weekday=_DAYS.index(days[0]))


def _one_date(text: str, day: datetime.date) -> CalendarQuestion:
    away = re.search(r"(\d+)[ -]days?", text)
    if away is None:
        return CalendarQuestion(kind="weekday", dates=(day,))
    back = re.search(r" ago| before|backward", text) is not None
    offset = -int(away[1]) if back else int(away[1])
    return CalendarQuestion(kind="offset", dates=(day,), offset=offset)


class CalendarArithmetic(TemplateTeacher[CalendarQuestion]):
    """Finds weekdays and counts days."""

    task = "rg_calendar_arithmetic"
    forms = ("datetime", "arithmetic", "walk")
    names: ClassVar = {
        "day": ("day", "current", "d"),
        "start": ("start", "first", "begin"),
        "total": ("total", "count", "found"),
    }
    scripts: ClassVar = {}
    methods: ClassVar = {
        "datetime": "The datetime module knows the calendar.",
        "arithmetic": "Weekdays repeat every 7 days, so remainders suffice.",
        "walk": "I walk through the days one by one.",
    }

    @override
    def parse(self, question: str) -> CalendarQuestion:
        text = question.split("\n")[0]
        if us := re.search(r"(\d\d)/(\d\d)/(\d{4})", text):
            day = _date(_MONTHS[int(us[1]) - 1], us[2], us[3])
            return CalendarQuestion(kind="weekday", dates=(day,))
        if special := _recurring(text) or _first_day(text):
            return special
        found = re.findall(_DATE, text)
        years = [year for _, _, year in found if year]
        require(bool(years), text)
        dates = tuple(_date(month, day, year or years[-1]) for month, day, year in found)
        if len(dates) == 1:
            return _one_date(text, dates[0])
        if re.search(r"business days|weekdays \(excluding", text):
            return CalendarQuestion(kind="business", dates=_in_order(*dates[:2]))
        asked = re.search(rf"(?:many|of|does) {_DAY}(?:s are| from| occur)", text)
        require(asked is not None, text)
        assert asked is not None
        return CalendarQuestion(kind="count", dates=dates, weekday=_DAYS.index(asked[1]))

    @override
    def values(self, data: CalendarQuestion, rng: random.Random) -> Mapping[str, object]:
        one, last = data.dates[0], data.dates[-1]
        return {
            "one": f"{one.year}, {one.month}, {one.day}",
            "last": f"{last.year}, {last.month}, {last.day}",
            "offset": data.offset,
            "away": abs(data.offset),
            "sign": "+" if data.offset > 0 else "-",
            "weekday": data.weekday,
            "name": _DAYS[data.weekday],
            "year": one.year,
            "month": one.month,
            "number": one.day,
            "index": data.ordinal - 1,
            "ordinal": data.ordinal,
            "test": "< 5" if data.kind == "business" else f"== {data.weekday}",
            "per_week": "5 * weeks" if data.kind == "business" else "weeks",
            "whole_days": (last - one).days + 1,
        }

    @override
    def openings(self, data: CalendarQuestion) -> Sequence[str]:
        start, end = data.dates[0], data.dates[-1]
        one, last = (f"{_MONTHS[d.month - 1]} {d.day}" for d in (start, end))
        name = _DAYS[data.weekday]
        match data.kind:
            case "weekday":
                return (
                    f"The weekday of {one}, {start.year} is asked.",
                    f"On which day of the week was {one}, {start.year}?",
                )
            case "offset":
                way, away = "after" if data.offset > 0 else "before", abs(data.offset)
                weeks, rest = divmod(away, 7)
                asked = f"I need the weekday {count_noun(away, 'day')} {way} {one}."
                parts = f"{count_noun(weeks, 'week')} and {count_noun(rest, 'day')}"
                return asked, f"{away} days are {parts}, counted from {one}." if weeks else asked
            case "first_day":
                common = " of a common year" if start.month > 2 else ""
                return (
                    f"January 1 is a {name}, and {one}{common} is asked.",
                    f"From January 1, a {name}, I count on to {one}{common}.",
                )
            case "recurring":
                ordinal = next(k for k, n in _ORDINALS.items() if n == data.ordinal)
                month = f"{_MONTHS[start.month - 1]} {start.year}"
                return (
                    f"The {ordinal} {name} of {month} is asked, as a day of the month.",
                    f"I look for the {ordinal} {name} in {month}.",
                )
            case "business":
                return (
                    f"Mondays to Fridays from {one} to {last} are counted, both ends included.",
                    f"Business days from {one} to {last} leave out Saturdays and Sundays.",
                )
            case _:
                return (
                    f"I count each {name} from {one} to {last}, both ends included.",
                    f"The range from {one} to {last} includes its ends; each {name} counts.",
                )

    @override
    def step(self, data: CalendarQuestion, form: str, rng: random.Random) -> Step:
        method = _RECURRING_METHODS[form] if data.kind == "recurring" else self.methods[form]
        words = [f"{each} {method}" for each in self.openings(data)]
        kind = "last_recurring" if data.kind == "recurring" and data.ordinal == 0 else data.kind
        return self._fill(data, (words, _SCRIPTS[kind][form]), {}, rng)

    @override
    def check(self, data: CalendarQuestion, answer: str, rng: random.Random) -> Step | None:
        if data.kind != "recurring" or answer == "-1":
            return None
        pattern = _RECURRING_CHECK if data.ordinal else _LAST_CHECK
        return self._fill(data, pattern, self.answer_values(data, answer), rng)

    @override
    def small_case(self, data: CalendarQuestion, rng: random.Random) -> Step | None:
        return self._fill(data, _RANGE, {}, rng) if data.kind in _COUNTS else None

    @override
    def first_attempt(self, data: CalendarQuestion, rng: random.Random) -> Step | None:
        last = data.dates[-1].weekday()
        counted = last < 5 if data.kind == "business" else last == data.weekday
        if data.kind not in _COUNTS or not counted:
            return None  # the end that it forgets would not be counted anyway
        return self._fill(data, _WITHOUT_END, {}, rng)

    @override
    def in_words(self, data: CalendarQuestion, rng: random.Random) -> tuple[str, str] | None:
        match data.kind:
            case "offset":
                return _offset_in_words(data.dates[0].weekday(), data.offset)
            case "first_day":
                day = data.dates[0]
                lengths = [calendar.monthrange(2023, m)[1] for m in range(1, day.month)]
                before = f"{' + '.join(map(str, lengths))} = {sum(lengths)}"
                past = f"{_MONTHS[day.month - 1]} {day.day} comes {{}} days after January 1"
                away = sum(lengths) + day.day - 1
                told = f"The months before have {before} days, so " if len(lengths) > 1 else ""
                words, answer = _offset_in_words(data.weekday, away)
                return f"{told}{past.format(away)}. {words}", answer
            case "count":
                return _count_in_words(data)
            case _:
                return None

    @override
    def wrong_answer(self, data: CalendarQuestion, answer: str, rng: random.Random) -> str:
        if answer in _DAYS:
            return _DAYS[(_DAYS.index(answer) + rng.choice((1, -1))) % 7]
        return str(int(answer) + (7 if data.kind == "recurring" else 1))


def _in_order(start: datetime.date, end: datetime.date) -> tuple[datetime.date, ...]:
    """Move an end that lies before the start to the next year, as its weekday says."""
    return (start, end if end >= start else end.replace(year=end.year + 1))


def _offset_in_words(weekday: int, offset: int) -> tuple[str, str]:
    """Count on or back from a weekday by what is left of whole weeks."""
    away, step = abs(offset), 1 if offset > 0 else -1
    weeks, rest = divmod(away, 7)
    name, days = _DAYS[weekday], count_noun(away, "day")
    if rest == 0:
        return f"{days} are exactly {count_noun(weeks, 'week')}, so it is a {name} again.", name
    passed = [_DAYS[(weekday + step * k) % 7] for k in range(1, rest + 1)]
    whole = (
        f"{days} are {count_noun(weeks, 'week')} and {count_noun(rest, 'day')}. " if weeks else ""
    )
    way = "on" if offset > 0 else "back"
    return f"{whole}From {name} {count_noun(rest, 'day')} {way}: {', '.join(passed)}.", passed[-1]


def _count_in_words(data: CalendarQuestion) -> tuple[str, str] | None:
    """List the dates with the weekday, where they are few."""
    start, end = data.dates
    gap = (data.weekday - start.weekday()) % 7
    hits = [start + datetime.timedelta(days=k) for k in range(gap, (end - start).days + 1, 7)]
    if not 0 < len(hits) <= 8:
        return None
    name = _DAYS[data.weekday]
    listed = ", ".join(f"{_MONTHS[day.month - 1]} {day.day}" for day in hits)
    words = (
        f"{_MONTHS[start.month - 1]} {start.day} is a {_DAYS[start.weekday()]}, so the first "
        f"{name} comes {count_noun(gap, 'day')} later. In steps of 7 days up to "
        f"{_MONTHS[end.month - 1]} {end.day}: {listed}."
    )
    if gap == 0:
        words = words.replace(f"so the first {name} comes 0 days later", "the first that counts")
    return words, str(len(hits))


_ONE_DATE: Mapping[str, Mapping[str, str]] = {
    "weekday": {
        "datetime": 'from datetime import date\n\n$day = date($one)\nprint($day.strftime("%A"))',
        "arithmetic": """
            from calendar import day_name

            year, month, $day = $one
            # Zeller's rule counts January and February to the year before.
            if month < 3:
                year, month = year - 1, month + 12
            century = year // 400 - year // 100 + year // 4
            # Zeller's 0 is a Saturday.
            print(day_name[($day + 13 * (month + 1) // 5 + year + century + 5) % 7])
            """,
        "walk": """
            import calendar
            from datetime import date, timedelta

            week = list(calendar.day_name)
            # January 1, 2024 was a Monday.
            $day, place = date(2024, 1, 1), 0
            while $day != date($one):
                direction = 1 if $day < date($one) else -1
                $day += timedelta(days=direction)
                place += direction
            print(week[place % 7])
            """,
    },
    "offset": {
        "datetime": """
            from datetime import date, timedelta

            $day = date($one) + timedelta(days=$offset)
            print($day.strftime("%A"))
            """,
        "arithmetic": """
            import calendar
            from datetime import date

            week = list(calendar.day_name)
            print(week[(date($one).weekday() + $offset) % 7])
            """,
        "walk": """
            import calendar
            from datetime import date

            week = list(calendar.day_name)
            $day = date($one).weekday()
            for _ in range($away):
                $day = ($day $sign 1) % 7
            print(week[$day])
            """,
    },
    "first_day": {
        "datetime": """
            import calendar
            from datetime import date

            week = list(calendar.day_name)
            # The year is not named; 2023 is one of 365 days.
            passed = date($one) - date(2023, 1, 1)
            print(week[(week.index("$name") + passed.days) % 7])
            """,
        "arithmetic": """
            import calendar

            week = list(calendar.day_name)
            lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
            passed = sum(lengths[:$month - 1]) + $number - 1
            print(week[(week.index("$name") + passed) % 7])
            """,
        "walk": """
            import calendar

            week = list(calendar.day_name)
            lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
            place, month, $day = week.index("$name"), 1, 1
            while (month, $day) != ($month, $number):
                place, $day = (place + 1) % 7, $day + 1
                if $day > lengths[month - 1]:
                    month, $day = month + 1, 1
            print(week[place])
            """,
    },
}
_COUNT = {
    "datetime": """
            from datetime import date, timedelta

            $start, end = date($one), date($last)
            days = [$start + timedelta(days=i) for i in range((end - $start).days + 1)]
            print(sum(day.weekday() $test for day in days))
            """,
    "arithmetic": """
            from datetime import date

            $start, end = date($one), date($last)
            weeks, rest = divmod((end - $start).days + 1, 7)
            $total = $per_week
            $total += sum(($start.weekday() + i) % 7 $test for i in range(rest))
            print($total)
            """,
    "walk": """
            from datetime import date, timedelta

            $day, end = date($one), date($last)
            $total = 0
            while $day <= end:
                if $day.weekday() $test:
                    $total += 1
                $day += timedelta(days=1)
            print($total)
            """,
}
_RECURRING = {
    "datetime": """
            import calendar

            weeks = calendar.monthcalendar($year, $month)
            $total = [week[$weekday] for week in weeks if week[$weekday] != 0]
            print($total[$index] if len($total) >= $ordinal else -1)
            """,
    "arithmetic": """
            from calendar import monthrange

            $start, length = monthrange($year, $month)  # weekday of day 1, number of days
            $day = 1 + ($weekday - $start) % 7 + 7 * $index
            print($day if $day <= length else -1)
            """,
    "walk": """
            from datetime import date, timedelta

            $day, $total = date($one), []
            while $day.month == $month:
                if $day.strftime("%A") == "$name":
                    $total.append($day.day)
                $day += timedelta(days=1)
            print($total[$index] if len($total) >= $ordinal else -1)
            """,
}
_LAST_RECURRING = {
    "datetime": _RECURRING["datetime"].replace(" if len($total) >= $ordinal else -1", ""),
    "arithmetic": """
            from calendar import monthrange

            $start, length = monthrange($year, $month)  # weekday of day 1, number of days
            end = ($start + length - 1) % 7
            print(length - (end - $weekday) % 7)
            """,
    "walk": _RECURRING["walk"].replace(" if len($total) >= $ordinal else -1", ""),
}
_RECURRING_METHODS = {
    "datetime": "calendar.monthcalendar gives the weeks of a month, with 0 outside of it.",
    "arithmetic": "The weekday of the month's first day and remainders modulo 7 lead there.",
    "walk": "I go through the days of the month and keep those with this weekday.",
}
_RECURRING_CHECK: Pattern = (
    ("The day must be a $name, and only $index of them may come before it in the month.",),
    """
    from datetime import date

    $day = date($year, $month, $literal)
    print($day.strftime("%A") == "$name" and ($day.day - 1) // 7 == $index)
    """,
)
_LAST_CHECK: Pattern = (
    ("The day must be a $name, and a week later the month must be over.",),
    """
    from datetime import date, timedelta

    $day = date($year, $month, $literal)
    later = $day + timedelta(days=7)
    print($day.strftime("%A") == "$name" and later.month != $day.month)
    """,
)
_RANGE: Pattern = (
    (
        "First the length of the range and the weekdays of its ends.",
        "How many days are there with both ends, and on which weekday does it begin?",
    ),
    """
    from datetime import date

    $start, end = date($one), date($last)
    print((end - $start).days + 1, "days from", $start.strftime("%A"), "to", end.strftime("%A"))
    """,
)
_WITHOUT_END: Pattern = (
    (
        "The difference of the dates is the number of days to look at.",
        "I go through the days from the first date up to the second.",
    ),
    """
    from datetime import date, timedelta

    $start, end = date($one), date($last)
    days = [$start + timedelta(days=i) for i in range((end - $start).days)]
    print(sum(day.weekday() $test for day in days))
    """,
)
_SCRIPTS: Mapping[str, Mapping[str, str]] = {
    **_ONE_DATE,
    "business": _COUNT,
    "count": _COUNT,
    "recurring": _RECURRING,
    "last_recurring": _LAST_RECURRING,
}

TEACHERS: tuple[Teacher[Any], ...] = (CalendarArithmetic(),)
