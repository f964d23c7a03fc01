"""Measure Hugging Face `generate` on one prompt, greedily, with a model's real weights.

`{"directory": "...", "tokens": [1, 2], "new": 200}` is answered with the tokens and the seconds.
"""

# pyright: reportMissingImports=false
# Its packages are in .venv-peers-torch.

import functools
import time
from typing import Any

import torch
import transformers
import wire

torch.set_num_threads(wire.CORES)


@functools.cache
def model(directory: str) -> Any:
    """Load the model once, in float32, and warm it up."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    loaded.eval()
    generate(loaded, [1, 2, 3], 4)
    return loaded


def generate(loaded: Any, tokens: list[int], new: int) -> list[int]:
    """Return the `new` most likely tokens, one after the other."""
    tokens_BT = torch.tensor([tokens])
    with torch.inference_mode():
        output_BT = loaded.generate(
            tokens_BT,
            attention_mask=torch.ones_like(tokens_BT),
            max_new_tokens=new,
            min_new_tokens=new,
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
            repetition_penalty=1.0,
            eos_token_id=None,
            pad_token_id=0,
        )
    return output_BT[0, len(tokens) :].tolist()


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Answer with one call of `generate`."""
    loaded = model(request["directory"])
    began = time.perf_counter()
    tokens = generate(loaded, list(request["tokens"]), request["new"])
    return {"tokens": tokens, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    wire.serve(answer, ("torch", "transformers"))
