"""Make the reference checkpoints beside this file: random weights, and what the reference computes.

It needs torch, which the project does not: `python tests/model/golden/make.py` in an environment of
its own with torch 2.13.0 and transformers 5.23.0. Each directory has the Hugging Face layout and
golden.npz: tokens of three rows (two left-padded), their mask, float32 logits, and a greedy
continuation without end tokens.
"""

import pathlib
import shutil

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent
ROWS, LENGTH, STEPS, VOCAB = 3, 24, 8, 96
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 128, "max_window_layers": 2,
    "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
KINDS = {
    "untied_gqa": {
        "num_key_value_heads": 2, "tie_word_embeddings": False, "rms_norm_eps": 1e-3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "tied_mqa": {
        "num_key_value_heads": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0}, "head_dim": 16,
    },
    "shards_bf16": {
        "num_key_value_heads": 4, "tie_word_embeddings": False, "rms_norm_eps": 1e-2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
}  # fmt: skip


def make(name: str, seed: int) -> None:
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    torch.manual_seed(seed)
    dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES, **KINDS[name]))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            # Large enough that attention, biases and norms all matter for the logits.
            spread, center = (0.3, 1.0) if "norm" in key else (0.25, 0.0)
            parameter.copy_(center + spread * torch.randn(parameter.shape))
    model.to(dtype).save_pretrained(
        directory, max_shard_size="25KB" if name.startswith("shards") else "5GB"
    )
    (directory / "generation_config.json").unlink(missing_ok=True)

    # Read again, so that the stored weights are those of the logits, computed in float32.
    model = transformers.Qwen2ForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    tokens = torch.randint(0, VOCAB, (ROWS, LENGTH))
    mask = torch.ones_like(tokens)
    mask[1, :5] = mask[2, :11] = 0
    tokens[mask == 0] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(tokens, attention_mask=mask, position_ids=positions).logits
        greedy = model.generate(
            tokens, attention_mask=mask, max_new_tokens=STEPS, do_sample=False, pad_token_id=0
        )[:, LENGTH:]
    np.savez_compressed(
        directory / "golden.npz",
        input_ids=tokens.numpy().astype(np.int32),
        attention_mask=mask.numpy().astype(np.int32),
        logits=logits.numpy(),
        greedy=greedy.numpy().astype(np.int32),
    )


if __name__ == "__main__":
    for seed, name in enumerate(KINDS):
        make(name, seed)
