"""Teacher of calendar arithmetic: weekdays, offsets and counts of days."""

import dataclasses
import datetime
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import TemplateTeacher

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DATE = rf"({'|'.join(_MONTHS)}) (\d+)(?:, (\d+))?"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalendarQuestion:
    """What is asked, the dates in the question, and the number or weekday."""

    kind: str
    dates: tuple[datetime.date, ...]
    offset: int = 0
    weekday: int = 0
    ordinal: int = 0


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
        named = re.findall(rf"(?:{'|'.join(_DAYS)})", re.split(r" days?\?|[.?] ", text)[0])
        found = re.findall(_DATE, text)
        if us := re.search(r"(\d\d)/(\d\d)/(\d{4})", text):
            day = datetime.date(int(us[3]), int(us[1]), int(us[2]))
            return CalendarQuestion(kind="weekday", dates=(day,))
        unnamed = not re.search(r"\d{4}", text)
        if unnamed and ("first day of the year" in text or "January 1" in text):
            month, number, _ = found[-1]
            # Any year without a leap day will do up to February; the year is not named.
            day = datetime.date(2023, _MONTHS.index(month) + 1, int(number))
            return CalendarQuestion(kind="first_day", dates=(day,), weekday=_DAYS.index(named[0]))
        years = [int(year) for _, _, year in found if year]
        if not years:
            raise UnreadableQuestionError(text)
        if any(int(number) > 31 for _, number, _ in found):
            raise UnreadableQuestionError(text)
        dates = tuple(
            datetime.date(int(year or years[-1]), _MONTHS.index(month) + 1, int(number))
            for month, number, year in found
        )
        if len(dates) == 1:
            away = re.search(r"(\d+)[ -]days?", text)
            back = re.search(r" ago| before|backward", text) is not None
            if away is None:
                return CalendarQuestion(kind="weekday", dates=dates)
            offset = -int(away[1]) if back else int(away[1])
            return CalendarQuestion(kind="offset", dates=dates, offset=offset)
        if re.search(r"business days|weekdays \(excluding", text):
            return CalendarQuestion(kind="business", dates=_in_order(*dates[:2]))
        asked = re.search(rf"(?:many|of|does) ({'|'.join(_DAYS)})(?:s are| from| occur)", text)
        if asked is None:
            raise UnreadableQuestionError(text)
        return CalendarQuestion(kind="count", dates=dates, weekday=_DAYS.index(asked[1]))

    @override
    def values(self, data: CalendarQuestion, rng: random.Random) -> Mapping[str, object]:
        one, last = data.dates[0], data.dates[-1]
        return {
            "one": f"{one.year}, {one.month}, {one.day}",
            "last": f"{last.year}, {last.month}, {last.day}",
            "offset": data.offset,
            "weekday": data.weekday,
            "name": _DAYS[data.weekday],
            "month": one.month,
            "number": one.day,
        }

    @override
    def openings(self, data: CalendarQuestion) -> Sequence[str]:
        one, last = (f"{_MONTHS[d.month - 1]} {d.day}" for d in (data.dates[0], data.dates[-1]))
        match data.kind:
            case "weekday":
                year = data.dates[0].year
                return (
                    f"The weekday of {one}, {year} is asked.",
                    f"On which day of the week was {one}, {year}?",
                )
            case "offset":
                way, away = "after" if data.offset > 0 else "before", abs(data.offset)
                return (
                    f"I need the weekday {away} days {way} {one}.",
                    f"{away} days are {away // 7} weeks and {away % 7} days, counted from {one}.",
                )
            case "first_day":
                return (
                    f"January 1 is a {_DAYS[data.weekday]}, and {one} is asked.",
                    f"From a {_DAYS[data.weekday]}, January 1, I count on to {one}.",
                )
            case "business":
                return (
                    f"Mondays to Fridays from {one} to {last} are counted, both ends included.",
                    f"Business days from {one} to {last} leave out Saturdays and Sundays.",
                )
            case _:
                name = _DAYS[data.weekday]
                return (
                    f"I count each {name} from {one} to {last}, both ends included.",
                    f"The range from {one} to {last} includes its ends; each {name} counts.",
                )

    @override
    def step(self, data: CalendarQuestion, form: str, rng: random.Random) -> Step:
        words = [f"{each} {self.methods[form]}" for each in self.openings(data)]
        return self._fill(data, (words, _SCRIPTS[data.kind][form]), {}, rng)

    @override
    def wrong_answer(self, data: CalendarQuestion, answer: str, rng: random.Random) -> str:
        if answer in _DAYS:
            return _DAYS[(_DAYS.index(answer) + rng.choice((1, -1))) % 7]
        return str(int(answer) + 1)


def _in_order(start: datetime.date, end: datetime.date) -> tuple[datetime.date, ...]:
    """Move an end that lies before the start to the next year, as its weekday says."""
    return (start, end if end >= start else end.replace(year=end.year + 1))


_SCRIPTS: Mapping[str, Mapping[str, str]] = {
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

            # January 1, 2024 was a Monday.
            week = list(calendar.day_name)
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
            for _ in range(abs($offset)):
                $day = ($day + (1 if $offset > 0 else -1)) % 7
            print(week[$day])
            """,
    },
    "first_day": {
        "datetime": """
            import calendar
            from datetime import date

            week = list(calendar.day_name)
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
            print(sum(day.weekday() TEST for day in days))
            """,
    "arithmetic": """
            from datetime import date

            $start, end = date($one), date($last)
            weeks, rest = divmod((end - $start).days + 1, 7)
            $total = weeks * PER_WEEK
            $total += sum(($start.weekday() + i) % 7 TEST for i in range(rest))
            print($total)
            """,
    "walk": """
            from datetime import date, timedelta

            $day, end = date($one), date($last)
            $total = 0
            while $day <= end:
                if $day.weekday() TEST:
                    $total += 1
                $day += timedelta(days=1)
            print($total)
            """,
}
_SCRIPTS = {
    **_SCRIPTS,
    "business": {k: v.replace("TEST", "< 5").replace("PER_WEEK", "5") for k, v in _COUNT.items()},
    "count": {
        k: v.replace("TEST", "== $weekday").replace("PER_WEEK", "1") for k, v in _COUNT.items()
    },
}

TEACHERS: tuple[Teacher[Any], ...] = (CalendarArithmetic(),)
