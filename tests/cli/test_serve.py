"""`r1ci serve` as a process: a real interpreter, a real client, and a signal that ends it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from tests.load import PATIENCE
from tests.rollout.scripts import CODE_THEN_ANSWER

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_answers_and_ends_with_a_signal(scripted, number: signal.Signals) -> None:
    words = ["--bare", "--context", "200", "--port", "0", "--slots", "2", "--temperature", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "r1ci_jax", "serve", scripted(CODE_THEN_ANSWER), *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    try:
        lines: list[str] = []
        while not (lines and " serving " in lines[-1]):
            lines.append(process.stderr.readline())
            assert lines[-1], f"it ended: {lines}"
        found = re.search(r"serving (\S+) at (http://127\.0\.0\.1:\d+/v1) ", lines[-1])
        assert found, lines
        with openai.OpenAI(base_url=found[2], api_key="none", timeout=PATIENCE) as client:
            completion = client.chat.completions.create(
                model=found[1], messages=[{"role": "user", "content": "Compute 3+4."}]
            )
        message = completion.choices[0].message
        assert message.content is not None and message.content.endswith("<<<7>>>")
        parts = message.model_dump()["r1ci"]["parts"]
        assert [part["type"] for part in parts] == ["text", "output", "text"]
        assert (parts[1]["text"], parts[1]["status"]) == ("\nCode Execution Results:\nok!\n", "ok")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == "r1ci: ended\n"
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
