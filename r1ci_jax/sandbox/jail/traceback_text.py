"""The text of an exception that nothing caught; its length and the time it takes are limited.

Python formats every frame and every exception that it can reach. A script can build a traceback of
300,000 frames, which would take seconds. So the middle is left out before anything is formatted.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # both take time to import, and only a failure needs them
    from traceback import TracebackException
    from types import TracebackType

TRACE = BaseException.__dict__["__traceback__"]
"""The attribute itself, which a script's class may hide by a property of its own."""
LONGEST_TEXT = 200
"""Largest number of lines."""
LONGEST_LINE = 2000
"""Largest number of characters of a line."""
MOST_FRAMES = 1500
"""Frames up to which a traceback is complete; Python's own limit of recursion is 1,000."""
FRAMES_KEPT = 20
"""Frames kept at each end of a longer one."""
MOST_EXCEPTIONS = 1000
"""Exceptions up to which chains and groups are complete."""
EXCEPTIONS_KEPT = 5
"""Exceptions kept at each end of a longer chain, and members of a group that is too large."""


def text(error: BaseException, shown: dict[str, str]) -> str:
    """Format the exception as Python does, with the frames of some files only.

    Args:
        error: The exception. What is left out is also removed from its tracebacks and chains.
        shown: The name to print of each file whose frames are printed.
    """
    import traceback

    if len(reachable(error, MOST_EXCEPTIONS + 1)) > MOST_EXCEPTIONS:
        error = with_short_chain(error)
    frames_left = MOST_FRAMES
    for part in reachable(error, MOST_EXCEPTIONS + 1):
        frames_left -= cut_traceback(part, set(shown), frames_left)
    trace = TRACE.__get__(error)
    report = traceback.TracebackException(type(error), error, trace, compact=True)
    seen = [report]
    while seen:
        part = seen.pop()
        select(part, shown)
        seen += [p for p in (part.__cause__, part.__context__) if p is not None]
        seen += getattr(part, "exceptions", None) or []
    whole = "".join(report.format())
    lines = [clipped(line) for line in whole.splitlines(keepends=True)]
    if len(lines) > LONGEST_TEXT:  # functions that call each other endlessly
        half = LONGEST_TEXT // 2
        lines[half:-half] = [f"  ... [{len(lines) - 2 * half} lines left out] ...\n"]
    return "".join(lines)


def reachable(error: BaseException, most: int) -> list[BaseException]:
    """List the exceptions that the text would contain: chains and groups, at least up to `most`."""
    found = [error]
    seen = {id(error)}
    for part in found:
        if len(found) > most:
            break
        members = part.exceptions[:most] if isinstance(part, BaseExceptionGroup) else ()
        for other in (before(part), *members):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                found.append(other)
    return found


def before(error: BaseException) -> BaseException | None:
    """Return the exception that is printed above this one."""
    if error.__cause__ is not None:
        return error.__cause__
    return None if error.__suppress_context__ else error.__context__


def cut_traceback(error: BaseException, files: set[str], most: int) -> int:
    """Leave out the middle of a traceback of more than `most` frames; return the number left."""
    frames = []
    frame = TRACE.__get__(error)
    while frame is not None:
        frames.append(frame)
        frame = frame.tb_next
    if len(frames) <= most:
        return len(frames)
    ends = max(1, min(FRAMES_KEPT, most // 2))
    first = indices(frames, range(len(frames)), files, ends)
    rest = range(len(frames) - 1, first[-1] if first else len(frames), -1)
    last = indices(frames, rest, files, ends + 1)[::-1]
    kept = [frames[index] for index in first]
    if len(last) > ends:
        del last[0]
        kept.append(mark(type(frames[0]), last[0] - first[-1] - 1))
    kept += [frames[index] for index in last]
    following = None
    for frame in reversed(kept):  # in this order, Python's search for loops is short
        frame.tb_next = following
        following = frame
    TRACE.__set__(error, following)
    return len(kept)


def indices(frames: list["TracebackType"], order: range, files: set[str], most: int) -> list[int]:
    """Return the first indices in `order` whose frames belong to `files`."""
    found: list[int] = []
    for index in order:
        if len(found) == most:
            break
        if frames[index].tb_frame.f_code.co_filename in files:
            found.append(index)
    return found


def mark(kind: "type[TracebackType]", count: int) -> "TracebackType":
    """Make a frame that stands for `count` others: its line number is the count."""
    return kind(None, sys._getframe(), -1, count)


def select(report: "TracebackException", shown: dict[str, str]) -> None:
    """Keep the frames of the files `shown` under the names to print."""
    import traceback

    kept: list[traceback.FrameSummary] = []
    cut, count = 0, 0
    for frame in report.stack:
        if frame.filename in shown:
            frame.filename = shown[frame.filename]
            kept.append(frame)
        elif frame.filename == mark.__code__.co_filename and frame.name == mark.__name__:
            cut, count = len(kept), frame.lineno or 0
    report.stack[:] = kept
    if count:
        head = traceback.StackSummary.from_list(kept[:cut])
        tail = traceback.StackSummary.from_list(kept[cut:])
        line = f"  ... [{count} frames left out] ...\n"
        report.stack.format = lambda **options: [  # pyright: ignore[reportAttributeAccessIssue]
            *head.format(**options), line, *tail.format(**options)
        ]  # fmt: skip
    if getattr(report, "filename", None) in shown:  # a SyntaxError
        report.filename = shown[report.filename]


def with_short_chain(error: BaseException) -> BaseException:
    """Leave out the middle of a chain of exceptions, and members of its groups."""
    chain = [error]
    seen = {id(error)}
    while (above := before(chain[-1])) is not None and id(above) not in seen:
        seen.add(id(above))
        chain.append(above)
    if len(chain) > 2 * EXCEPTIONS_KEPT:
        left_out = len(chain) - 2 * EXCEPTIONS_KEPT
        del chain[EXCEPTIONS_KEPT:-EXCEPTIONS_KEPT]
        chain[EXCEPTIONS_KEPT].add_note(f"... [{left_out} exceptions left out] ...")
    chain = [small(part) if isinstance(part, BaseExceptionGroup) else part for part in chain]
    for below, above in zip(chain, [*chain[1:], None], strict=True):
        suppressed = below.__suppress_context__
        if below.__cause__ is not None:
            below.__cause__ = above
        below.__context__ = above
        below.__suppress_context__ = suppressed
    return chain[0]


def small(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return a group of the same name and message with few members, which have no chain."""
    few = [lone(member) for member in group.exceptions[:EXCEPTIONS_KEPT]]
    copy = stand_in(group, BaseExceptionGroup)("", few)
    copy.__traceback__ = group.__traceback__
    copy.__cause__, copy.__context__ = group.__cause__, group.__context__
    copy.__suppress_context__ = group.__suppress_context__
    for note in getattr(group, "__notes__", ()):
        copy.add_note(note)
    if left_out := len(group.exceptions) - len(few):
        copy.add_note(f"... [{left_out} exceptions left out] ...")
    return copy


def lone(error: BaseException) -> BaseException:
    """Return the exception without chain and members."""
    if isinstance(error, BaseExceptionGroup):
        alone = stand_in(error, BaseException)()
        alone.add_note(f"... [{len(error.exceptions)} exceptions left out] ...")
        return alone
    error.__cause__ = error.__context__ = None
    return error


def stand_in(error: BaseException, base: type[BaseException]) -> type[BaseException]:
    """Make a class with the name and the message of an exception."""
    kind, message = type(error), str(error)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (base,), {**names, "__str__": lambda self: message})


def clipped(line: str) -> str:
    """Shorten a line that quotes very long source."""
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ...\n"
