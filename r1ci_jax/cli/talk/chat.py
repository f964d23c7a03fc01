"""`r1ci chat MODEL` starts a conversation with a model and a live interpreter."""

import argparse
import concurrent.futures
import contextlib
import importlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1ci_jax.cli import sampling_options
from r1ci_jax.cli.talk import model_options
from r1ci_jax.config import LARGEST_SEED
from r1ci_jax.errors import UserError
from r1ci_jax.rollout import agents
from r1ci_jax.runtime import terminal, user_modules
from r1ci_jax.runtime.run_dir import RunDir
from r1ci_jax.sandbox import Sandbox
from r1ci_jax.text import prompts

if TYPE_CHECKING:  # both import JAX
    from r1ci_jax.tools.chat.conversation import Conversation
    from r1ci_jax.tools.chat.view import View

PROMPT = "> "
HELP = """\
/reset          begin a new conversation
/system TEXT    begin a new one with these instructions; without TEXT, with none
/quit           leave (Ctrl-D does too)
Ctrl-C          stop the answer"""


def add_commands(subparsers: Any) -> None:
    """Register `chat`."""
    parser = subparsers.add_parser(
        "chat",
        help="talk to a model, with the interpreter live",
        description="Talk to a model. Its scripts are run in the jail as soon as they are closed, "
        "and it reads what they print. Messages are lines of standard input.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model_options.add(parser)
    parser.add_argument(
        "--agent",
        default="code_agent",
        metavar="NAME",
        help=f"{', '.join(prompts.AGENT_NAMES)} (default code_agent), or one of your own, "
        "package.module:Class; its module lies in the working directory or is installed",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--system", metavar="TEXT", help="instructions before all; default: the checkpoint's"
    )
    parser.add_argument(
        "--json", action="store_true", help="print events, one JSON object per line"
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    sampling_options.chosen(args)  # mistakes end it before anything is loaded
    model_options.check(args)
    if not 0 <= args.seed <= LARGEST_SEED:
        raise UserError(f"--seed must be from 0 to {LARGEST_SEED}, not {args.seed}")
    if ":" in args.agent:
        user_modules.search(Path.cwd())
    agent = agents.get(args.agent)
    run = model_options.find_run(args)
    with terminal.reading_stdin():
        pass  # a closed one is reported before anything is loaded
    with concurrent.futures.ThreadPoolExecutor(1) as background:
        # The fork server, a process of its own, starts as long as JAX takes to be imported.
        background.submit(_import_model_code)
        # Scripts come one at a time.
        opened = Sandbox(model_options.sandbox_config(run, workers=1))
    with opened as sandbox:
        conversation, view = _open(args, run, sandbox, agent)
        return _talk(conversation, view, is_json=args.json)


def _import_model_code() -> None:
    for name in ("tools.chat.chat_model", "tools.chat.conversation", "tools.chat.view"):
        importlib.import_module(f"r1ci_jax.{name}")


def _open(
    args: argparse.Namespace,
    run: RunDir | None,
    sandbox: Sandbox,
    agent: agents.Agent,
) -> tuple["Conversation", "View"]:
    """Load the model; by default answers may be as long as in its training."""
    from r1ci_jax.runtime import compilation_cache
    from r1ci_jax.tools.chat import chat_model, conversation
    from r1ci_jax.tools.chat import view as chat_view

    compilation_cache.enable()
    print(f"r1ci: loading {args.path}", file=sys.stderr)
    chat = model_options.load(args, run)
    print("r1ci: compiling; /help lists the commands", file=sys.stderr)
    runner = chat_model.make_runner(chat, sandbox, slots=1, seed=args.seed)
    tokenizer = runner.tokenizer
    if args.json:
        view: View = chat_view.JsonView(sys.stdout, tokenizer)
    else:
        view = chat_view.TextView(sys.stdout, tokenizer, use_color=sys.stdout.isatty())
    instructions = prompts.instructions_of(agent.name, chat.instructions)
    asking = conversation.Conversation(
        runner,
        chat.sampling,
        view,
        instructions=instructions,
        guide=chat.instructions.get(prompts.GUIDE, ""),
        agent=agent,
    )
    asking.reset(chat.system if args.system is None else args.system)
    return asking, view


def _talk(conversation: "Conversation", view: "View", *, is_json: bool) -> int:
    """Answer each message; return 1 if one failed and no person saw the reason."""
    assert sys.stdin is not None, "a closed standard input was not reported"
    is_person = sys.stdin.isatty() and not is_json
    failed = False
    for message in _typed() if is_person else _piped():
        command, _, rest = message.partition(" ")
        match command:
            case "/quit":
                break
            case "/reset":
                conversation.reset()
            case "/system":
                conversation.reset(rest.strip())
            case "/help":
                print(HELP, file=sys.stderr)
            case _ if command.startswith("/"):
                view.problem(f"there is no command {command}; /help lists them")
                failed = True
            case _:
                failed |= not _answer(conversation, view, message)
    return int(failed and not is_person)


def _answer(conversation: "Conversation", view: "View", message: str) -> bool:
    """Answer one message; return False if that is not possible."""
    try:
        with _ctrl_c() as is_stopped:
            if not conversation.ask(message, is_stopped):
                view.interrupted()
    except UserError as error:
        view.problem(str(error))
        return False
    return True


def _typed() -> Iterator[str]:
    """Yield the typed lines; Ctrl-C drops the line and Ctrl-D ends."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # input() uses it, for history and editing
    while True:
        try:
            with terminal.reading_stdin():
                line = input(PROMPT).strip()
        except KeyboardInterrupt:
            print()
        except EOFError:
            print()
            return
        else:
            if line:
                yield line


def _piped() -> Iterator[str]:
    while True:
        with terminal.reading_stdin() as stdin:
            line = stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


@contextlib.contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C only set the yielded function to true; no computation is interrupted."""
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
