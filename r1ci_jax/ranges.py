"""Ranges of settings: each stands beside its field, and construction refuses what is outside.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Sft(Checked, section="sft"):
        epochs: Count = 3
        warmup: Fraction = 0.03

`Sft(epochs=0)` raises "sft.epochs must be at least 1, not 0". The type of a field is checked as
well, so a setting without a range refuses at least NaN, infinity and another type.
"""

import dataclasses
import functools
import math
import operator
import re
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, Literal

from r1ci_jax.errors import UserError, did_you_mean

_BOUNDS: Final[dict[str, Callable[[float, float], bool]]] = {
    "at least": operator.ge,
    "above": operator.gt,
    "at most": operator.le,
    "below": operator.lt,
}
_KINDS: Final = {
    bool: "True or False",
    int: "an integer",
    float: "a finite number",
    str: "a text",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Allowed numbers: every bound that is given holds."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def problem(self, value: float) -> str | None:
        """Return what the value must be, or None if it is."""
        return None if all(holds(value, bound) for holds, bound, _ in self._bounds()) else str(self)

    def __str__(self) -> str:
        return " and ".join(f"{words} {bound}" for _, bound, words in self._bounds())

    def _bounds(self) -> list[tuple[Callable[[float, float], bool], float, str]]:
        found = [
            (_BOUNDS[words], getattr(self, words.replace(" ", "_")), words) for words in _BOUNDS
        ]
        return [each for each in found if each[1] is not None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entries:
    """Allowed tuples: how many entries, and in which order."""

    order: Literal["any", "distinct", "ascending", "descending"] = "any"
    """An ascending or descending tuple has no entry twice either."""
    may_be_empty: bool = False

    def problem(self, value: tuple[Any, ...]) -> str | None:
        """Return what the tuple must be, or None if it is."""
        if not value and not self.may_be_empty:
            return "one or more values"
        if self.order == "distinct" and len(set(value)) < len(value):
            return "without repetition"
        wanted = sorted(set(value), reverse=self.order == "descending")
        if self.order in ("ascending", "descending") and list(value) != wanted:
            return f"{self.order}, no value twice"
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class NameOrPlace:
    """Allowed texts: some names, and `package.module:Name`, the place of what a user wrote."""

    names: tuple[str, ...]

    def problem(self, value: str) -> str | None:
        """Return what the text must be, or None if it is."""
        if value in self.names or _PLACE.fullmatch(value):
            return None
        hint = did_you_mean(value, self.names).strip()
        wanted = f"one of {', '.join(self.names)}, or package.module:Class"
        return f"{wanted} ({hint})" if hint else wanted


_PLACE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")

Count = Annotated[int, Range(at_least=1)]
Natural = Annotated[int, Range(at_least=0)]
LARGEST_INT32: Final = 2**31 - 1
"""What a device counts, it counts in 32 bits."""
Int32Count = Annotated[int, Range(at_least=1, at_most=LARGEST_INT32)]
Int32Natural = Annotated[int, Range(at_least=0, at_most=LARGEST_INT32)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(at_least=0)]
Fraction = Annotated[float, Range(at_least=0, at_most=1)]
Ascending = Annotated[tuple[Count, ...], Entries(order="ascending")]


def require(condition: bool, message: str) -> None:
    """Raise UserError with the message unless the condition holds: for what several fields say."""
    if not condition:
        raise UserError(message)


class OutOfRange(UserError):
    """A setting has a value that it cannot have."""

    def __init__(self, section: str, field: str, wanted: str, value: object) -> None:
        self.field = field
        """Name within its section."""
        self.reason = f"must be {wanted}, not {value!r}"
        super().__init__(
            f"{section}.{field} {self.reason}" if section else f"{field} {self.reason}"
        )

    def of_option(self) -> UserError:
        """Return the same about the option of the command line that has the field's name."""
        return UserError(f"--{self.field.replace('_', '-')} {self.reason}")


class Checked:
    """Base of a dataclass whose fields are checked at construction.

    `section` is the dotted name under which an experiment has these settings, for messages.
    """

    section: ClassVar[str] = ""

    def __init_subclass__(cls, *, section: str = "") -> None:
        super().__init_subclass__()
        cls.section = section

    def __post_init__(self) -> None:
        for field, hint in field_types(type(self)).items():
            if found := _problem(getattr(self, field), hint):
                raise OutOfRange(self.section, field + found[0], found[1], found[2])


@functools.cache
def field_types(kind: type) -> dict[str, Any]:
    """Return the type of every field of a dataclass, with its range."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def bare_type(hint: Any) -> Any:
    """Return a field's type without its range."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def describe(hint: Any) -> str:
    """Say what a field of this type takes, such as "an integer, at least 1"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = [str(rule) for rule in arguments[1:] if isinstance(rule, Range)]
        return ", ".join([describe(arguments[0]), *bounds])
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin in (typing.Union, types.UnionType):
        (inner,) = (each for each in arguments if each is not type(None))
        return f"{describe(inner)} (or None)"
    if origin is tuple:
        return f"values separated by commas, each {describe(arguments[0])}"
    return _KINDS.get(hint) or hint.__name__


def _problem(value: Any, hint: Any) -> tuple[str, str, Any] | None:
    """Return the place within the field, what must stand there, and what does; or None."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        inner, *rules = arguments
        if found := _problem(value, inner):
            return found
        wanted = (
            rule.problem(value) for rule in rules if isinstance(rule, Range | Entries | NameOrPlace)
        )
        return next((("", text, value) for text in wanted if text), None)
    if origin is Literal:
        return None if value in arguments else ("", f"one of {', '.join(arguments)}", value)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (each for each in arguments if each is not type(None))
        if found := _problem(value, inner):
            return found[0], f"{found[1]} (or None)", found[2]
        return None
    if origin is tuple:
        if not isinstance(value, tuple):
            return "", "a tuple", value
        for index, entry in enumerate(value):
            if found := _problem(entry, arguments[0]):
                return f"[{index}]{found[0]}", found[1], found[2]
        return None
    return None if _is_of_type(value, hint) else ("", _KINDS.get(hint) or hint.__name__, value)


def _is_of_type(value: Any, kind: type) -> bool:
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
