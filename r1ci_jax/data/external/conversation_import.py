"""Import of conversations: they are taken apart at their scripts, and everything is done again."""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from r1ci_jax.data.demonstrations import Demonstration
from r1ci_jax.data.external import conversation_formats, scripts, selection, written_answers
from r1ci_jax.data.external.conversation_formats import Conversation, Format
from r1ci_jax.data.external.selection import Made, Rejection, Selection, Turn
from r1ci_jax.data.scripted_teacher import Interpreter
from r1ci_jax.sandbox.result import ExecResult, Status
from r1ci_jax.tasks import base
from r1ci_jax.tasks.base import Example
from r1ci_jax.text import first_stop, prompts, protocol
from r1ci_jax.text.protocol import Stop

_HEAD: Final = 24
"""Characters of a question by which it is looked up."""
_NO_RESULT: Final = ExecResult(status=Status.OK)
_BLOCK: Final = 64
"""Conversations that are worked on together; their scripts fill the sandbox's workers."""
_OUTPUT_FENCES: Final = ("```output\n", "```text\n", "```console\n", "```\n")
_PREFIXES: Final = (protocol.OBSERVATION_PREFIX, "Execution result:", "Output:", "stdout:")


class RejectedError(ValueError):
    """A conversation cannot become a demonstration."""

    def __init__(self, reason: Rejection) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draft:
    """A turn before its script has run here."""

    text: str
    code: str | None = None
    recorded: str | None = None
    """What the file says that the script printed, if it says anything."""
    reply: str = ""


class Questions:
    """The questions of an experiment, found by their ids or by their texts."""

    def __init__(self, examples: Mapping[str, Iterable[Example]]) -> None:
        """Take the examples by split; those of `sft` may be shown."""
        self._by_id: dict[str, tuple[str, Example]] = {}
        self._by_text: dict[str, tuple[str, Example]] = {}
        self._by_head: dict[str, list[str]] = collections.defaultdict(list)
        for split, members in examples.items():
            for example in members:
                text = base.normalize_question(example.question)
                self._by_id[example.id] = self._by_text[text] = (split, example)
                self._by_head[text[:_HEAD]].append(text)

    def find(self, conversation: Conversation) -> Example:
        """Return the example that a conversation answers.

        Its question must stand word for word in the user's first message, also where the record
        names its id. Of several that stand there, the longest is meant if it holds the others.

        Raises:
            RejectedError: There is none, or it may not be shown.
        """
        said = base.normalize_question(conversation.question[: selection.MAX_CHARACTERS])
        texts = sorted(self._standing_in(said), key=len)
        named = {self._by_id[name][1].question for name in conversation.ids if name in self._by_id}
        meant = [text for text in texts if text in set(map(base.normalize_question, named))]
        if not meant and all(text in texts[-1] for text in texts):
            meant = texts[-1:]
        if not meant:
            raise RejectedError(Rejection.NO_QUESTION)
        split, example = self._by_text[meant[0]]
        if split != "sft":
            raise RejectedError(Rejection.OTHER_SPLIT)
        return example

    def _standing_in(self, said: str) -> set[str]:
        """Return the questions that a message holds, as whole words."""
        found: set[str] = set()
        for size in {len(head) for head in self._by_head}:
            for begin in range(len(said) - size + 1):
                for text in self._by_head.get(said[begin : begin + size], ()):
                    end = begin + len(text)
                    is_whole = not (said[begin - 1 : begin] + " ")[0].isalnum()
                    is_whole &= not (said[end : end + 1] + " ")[0].isalnum()
                    if is_whole and said.startswith(text, begin):
                        found.add(text)
        return found


def import_file(
    path: Path,
    questions: Questions,
    sandbox: Interpreter,
    collected: Selection,
    *,
    form: Format = "auto",
    max_scripts: int = 8,
    instructions: Mapping[str, str] = prompts.NO_INSTRUCTIONS,
    report: Callable[[int], None] | None = None,
) -> Made:
    """Import a file of conversations; what is rejected is counted, and nothing is believed.

    Args:
        path: JSON lines, or one JSON list.
        questions: The questions that may be answered.
        sandbox: Runs every script.
        collected: Takes what is kept.
        form: The form of the records; `auto` looks at each.
        max_scripts: The largest number of scripts of one conversation.
        instructions: Instructions of the policy, by agent.
        report: Called with the number of conversations that are done.

    Raises:
        UserError: The file cannot be read, or no jail can be built.
    """
    records = conversation_formats.read_records(path)
    done = 0
    for block in itertools.batched((record for _, record in records), _BLOCK):
        drafts = [_draft(record, questions, form, max_scripts) for record in block]
        for offered in _finish(drafts, sandbox, instructions):
            collected.offer(offered)
        done += len(block)
        if report is not None:
            report(done)
    return collected.made()


_Drafted = tuple[Example, list[Draft]]


def _draft(
    record: Any, questions: Questions, form: Format, max_scripts: int
) -> _Drafted | Rejection:
    try:
        conversation = conversation_formats.parse(record, form)
        if sum(len(part.text) for part in conversation.parts) > selection.MAX_CHARACTERS:
            return Rejection.TOO_LONG
        example = questions.find(conversation)
        drafts = draft_turns(conversation)
    except conversation_formats.FormError:
        return Rejection.UNREADABLE
    except conversation_formats.LongTextError:
        return Rejection.TOO_LONG
    except conversation_formats.OtherToolError:
        return Rejection.OTHER_TOOL
    except RejectedError as error:
        return error.reason
    if sum(draft.code is not None for draft in drafts) > max_scripts:
        return Rejection.MANY_SCRIPTS
    return example, drafts


def _finish(
    drafts: Sequence[_Drafted | Rejection],
    sandbox: Interpreter,
    instructions: Mapping[str, str],
) -> list[Demonstration | Rejection]:
    """Run the scripts of a block of conversations, and make demonstrations of them."""
    codes = [
        draft.code
        for each in drafts
        if not isinstance(each, Rejection)
        for draft in each[1]
        if draft.code is not None
    ]
    results = scripts.run_all(codes, sandbox)
    offered = [_demonstrate(each, results, instructions) for each in drafts]
    made = [each for each in offered if isinstance(each, Demonstration)]
    unsteady = scripts.unsteady(made, sandbox)
    names = iter(range(len(made)))
    return [
        Rejection.UNSTEADY if isinstance(each, Demonstration) and next(names) in unsteady else each
        for each in offered
    ]


def _demonstrate(
    drafted: _Drafted | Rejection,
    results: Mapping[str, ExecResult],
    instructions: Mapping[str, str],
) -> Demonstration | Rejection:
    if isinstance(drafted, Rejection):
        return drafted
    example, drafts = drafted
    turns = []
    for draft in drafts:
        result = None if draft.code is None else results[draft.code]
        is_recorded = result is not None and draft.recorded is not None
        if is_recorded and not is_same_output(draft.recorded or "", result or _NO_RESULT):
            return Rejection.OTHER_OUTPUT
        turns.append(Turn(text=draft.text, result=result, reply=draft.reply))
    is_code_alone = len(turns) == 1 and turns[0].result is not None
    return selection.demonstration(
        example,
        turns,
        agent="all_code" if is_code_alone else "code_agent",
        instructions=instructions,
    )


# --- Taking a conversation apart ---


def draft_turns(conversation: Conversation) -> list[Draft]:
    """Split a conversation into turns as a rollout would have: at each script, at an answer.

    Raises:
        RejectedError: It has no such turns.
    """
    drafts: list[Draft] = []
    awaited: collections.deque[int] = collections.deque()
    words = ""
    parts = list(conversation.parts)
    for place, part in enumerate(parts):
        last = drafts[-1] if drafts else None
        is_answered = last is not None and last.code is None
        if part.speaker != "user" and is_answered and last is not None and not last.reply:
            continue  # Sampling would have ended at the answer.
        if part.speaker == "output" or (part.speaker == "user" and awaited and not words.strip()):
            if not awaited:
                raise RejectedError(Rejection.STRAY_OUTPUT)
            number = awaited.popleft()
            drafts[number] = dataclasses.replace(drafts[number], recorded=part.text)
        elif part.speaker == "user":
            if not is_answered:
                raise RejectedError(Rejection.UNFINISHED_TURN)
            assert last is not None
            drafts[-1] = dataclasses.replace(last, reply=part.text)
        elif part.speaker == "script":
            awaited.append(len(drafts))
            drafts.append(_called(words, part.text))
            words = ""
        else:
            ends = place + 1 == len(parts) or parts[place + 1].speaker == "user"
            added, words = _said(words + part.text, ends=ends)
            awaited.extend(
                len(drafts) + n
                for n, draft in enumerate(added)
                if draft.code is not None and draft.recorded is None
            )
            drafts += added
    if words.strip():
        raise RejectedError(Rejection.NO_ANSWER)
    if not drafts:
        raise RejectedError(Rejection.NO_ANSWER)
    return drafts


def _called(words: str, code: str) -> Draft:
    """Write a tool call as a code block."""
    before = f"{words.rstrip()}\n" if words.strip() else ""
    text = f"{before}```python\n{code.strip(chr(10))}\n```"
    if first_stop.find(text) != (Stop.CODE, len(first_stop.encoded(text))):
        raise RejectedError(Rejection.FENCE_IN_CODE)
    return Draft(text=text, code=protocol.last_code(text))


def _said(text: str, *, ends: bool) -> tuple[list[Draft], str]:
    """Split what an assistant said into turns, and the words that no turn ends.

    `ends`: nothing of the assistant's follows, so the words must hold an answer in some form.
    """
    drafts: list[Draft] = []
    while text.strip():
        turn, stop, rest = first_stop.split_turn(text)
        if stop is Stop.ANSWER:
            return [*drafts, Draft(text=turn)], ""
        if stop is Stop.NONE:
            marked = written_answers.with_marks(text) if ends else None
            return ([*drafts, Draft(text=marked)], "") if marked else (drafts, text)
        recorded, text = _printed(rest)
        drafts.append(Draft(text=turn, code=protocol.last_code(turn), recorded=recorded))
    return drafts, ""


def _printed(rest: str) -> tuple[str | None, str]:
    """Split off the output that a message claims for the script before it."""
    stripped = rest.lstrip()
    for prefix in _PREFIXES:
        stripped = (
            stripped.removeprefix(prefix).lstrip() if stripped.startswith(prefix) else stripped
        )
    fence = next((each for each in _OUTPUT_FENCES if stripped.startswith(each)), None)
    if fence is None:
        return None, rest.removeprefix("\n")
    output, mark, after = stripped.removeprefix(fence).partition("```")
    return (output, after.lstrip("\n")) if mark else (None, rest)


# --- Comparing outputs ---


def is_same_output(recorded: str, result: ExecResult) -> bool:
    """Return True if a script printed what the file says, apart from white space and labels.

    Of a script that failed, the last line decides: tracebacks name files.
    """
    shown = protocol.observation(result).strip().removeprefix(protocol.OBSERVATION_PREFIX)
    ours, theirs = _bare(shown), _bare(recorded)
    if ours == theirs or (not theirs and ours == ["(no output)"]):
        return True
    return result.status is not Status.OK and ours[-1:] == theirs[-1:] != []


def _bare(text: str) -> list[str]:
    """Return the lines without labels, fences, white space at their ends and empty lines."""
    text = text.strip()
    for prefix in _PREFIXES:
        text = text.removeprefix(prefix).lstrip() if text.startswith(prefix) else text
    lines = [line.rstrip() for line in text.splitlines()]
    if lines and lines[0].startswith("```") and lines[-1] == "```":
        lines = lines[1:-1]
    return [line for line in lines if line]
