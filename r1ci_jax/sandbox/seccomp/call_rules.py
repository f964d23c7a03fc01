"""Read a policy's system-call filter; nsjail gets it as Kafel text with the numbers of the calls.

The files `sandboxes/*.kafel` use this part of Kafel:

    POLICY name { ALLOW { call, call(arg, ...) { condition || condition } } ERRNO(n) { call } }

A condition is `arg == value` or `(arg & mask) == value`. A call whose condition does not hold fails
with EPERM, and a call that no policy names with ENOSYS. Of several policies, a later one decides.
"""

import dataclasses
import platform
import re
from collections.abc import Mapping, Sequence
from typing import Final

from r1ci_jax.errors import UserError
from r1ci_jax.sandbox.seccomp.system_calls import NUMBERS

EPERM: Final = 1
ENOSYS: Final = 38
_ALL_BITS: Final = (1 << 64) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Condition:
    """A test of one argument of a call: `(argument & mask) == value`."""

    argument: int
    """Position of the argument, from 0."""
    mask: int
    value: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """The decision about one call."""

    errno: int | None
    """The error of a refused call; None allows it."""
    conditions: tuple[Condition, ...] = ()
    """A call with conditions passes if one of them holds, and fails with EPERM otherwise."""


def rules(text: str) -> dict[int, Rule]:
    """Return the rule of each call that the POLICY blocks in `text` name, by its number.

    Raises:
        UserError: The processor is not x86_64, or the text uses a part of Kafel that this module
            does not support.
    """
    if platform.machine() != "x86_64":
        raise UserError(
            "the sandbox's system-call filter knows the calls of x86_64 only and this is "
            f"{platform.machine()}; run scripts on x86_64 machines"
        )
    bare = re.sub(r"//[^\n]*", "", text)
    found: dict[int, Rule] = {}
    for block in re.finditer(r"POLICY\s+\w+\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", bare):
        body = block[1]
        for action in re.finditer(r"(ALLOW|ERRNO\((\d+)\))\s*\{((?:[^{}]|\{[^{}]*\})*)\}", body):
            errno = None if action[2] is None else int(action[2])
            found |= dict(_rule(item, errno) for item in _items(action[3]))
            body = body.replace(action[0], "")
        if body.strip(", \n\t"):
            raise UserError(
                f"the system-call filter has {body.split()[0]!r}; it may have ALLOW and ERRNO"
            )
    if not found:
        raise UserError("the system-call filter has no rules; write POLICY name { ALLOW {...} }")
    return found


def _items(text: str) -> list[str]:
    """Split at the commas outside parentheses and braces."""
    items = re.findall(r"(?:[^,({]|\([^)]*\)|\{[^}]*\})+", text)
    return [item.strip() for item in items if item.strip()]


def _rule(item: str, errno: int | None) -> tuple[int, Rule]:
    match = re.fullmatch(r"(\w+)\s*(?:\(([\w\s,]*)\)\s*\{([^}]*)\})?", item)
    if match is None:
        raise UserError(f"the system-call filter has a rule that is not understood: {item}")
    name, arguments, condition = match.groups()
    if name not in NUMBERS:
        raise UserError(f"the system-call filter names {name!r}, which is not known here")
    if condition is None:
        return NUMBERS[name], Rule(errno=errno)
    if errno is not None:
        raise UserError(f"the system-call filter has a condition outside ALLOW: {item}")
    names = [argument.strip() for argument in arguments.split(",")]
    conditions = tuple(_condition(part, names) for part in condition.split("||"))
    return NUMBERS[name], Rule(errno=None, conditions=conditions)


def _condition(text: str, names: Sequence[str]) -> Condition:
    match = re.fullmatch(r"\(?(\w+)(?:\s*&\s*(\w+)\))?\s*==\s*(\w+)", text.strip())
    if match is None or match[1] not in names:
        raise UserError(f"the system-call filter has a condition that is not known here: {text}")
    mask = _ALL_BITS if match[2] is None else int(match[2], 0)
    return Condition(argument=names.index(match[1]), mask=mask, value=int(match[3], 0))


def kafel(found: Mapping[int, Rule]) -> str:
    """Return the rules as Kafel text for nsjail, which names the calls by their numbers."""
    actions: dict[str, list[str]] = {}
    for number, rule in sorted(found.items()):
        call = f"SYSCALL[{number}]"
        if not rule.conditions:
            action = "ALLOW" if rule.errno is None else f"ERRNO({rule.errno})"
            actions.setdefault(action, []).append(call)
            continue
        arguments = ", ".join(f"a{index}" for index in range(6))
        tests = [f"(a{c.argument} & {c.mask:#x}) %s {c.value:#x}" for c in rule.conditions]
        holds = " || ".join(test % "==" for test in tests)
        fails = " && ".join(test % "!=" for test in tests)
        actions.setdefault("ALLOW", []).append(f"{call}({arguments}) {{ {holds} }}")
        refused = f"{call}({arguments}) {{ {fails} }}"
        actions.setdefault(f"ERRNO({EPERM})", []).append(refused)
    blocks = (f"{action} {{ {', '.join(calls)} }}" for action, calls in actions.items())
    return f"POLICY all {{ {', '.join(blocks)} }} USE all DEFAULT ERRNO({ENOSYS})"
