"""The planted model: a Llama with hand-set weights whose desperation -> cheat circuit is known exactly.

Residual axes: `const`, `decision`, one per emotion and topic word class (`word:desperate`), one per running
state (`state:desperate`), `plan`, `act`, and the rest for word identity. Every embedding has norm
sqrt(d_model), so the first RMSNorm is the identity; the scales r of the later norms follow from the squared
length, which only the steps below change. For a prompt of T tokens (with `<s>`), at its last position
(`decides`, where the `decision` axis is 2):

    block 0 attention   uniform; state_c = 4 * (mean of word_c) = 8 n_c / T, n_c words of class c
                        r1^2 = 1 + sum_c state_c^2 / 64
    block 1 MLP         plan = silu((3 + state_desperate - state_calm) / r1) / (2 r1)
                        r2^2 = r1^2 + plan^2 / 64
    block 2 MLP         act = silu(8 / r2) * plan / (4 r2), gated by `decision`
                        r3^2 = r2^2 + act^2 / 64
    logits              cheat - fix = (1.2 act - 2.8 + 0.25 (state_desperate - state_calm)) / r3

So the circuit is words -> state:desperate, state:calm -> plan -> act -> token, and next to it a weak direct
path from the states to the token. Happiness, sadness and topics have words and states too, and no effect but
on the norms and on the words that follow: they are the distractors. `expected_log_odds` is this table as
code.
"""

import json
import math
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, PreTrainedTokenizerFast

from emocircuits.models.planted.text import (
    AXES,
    CHEAT,
    CLASS_OF,
    CLASSES,
    CONST,
    D_MODEL,
    DECISION,
    EMOTIONS,
    HONEST,
    N_LAYERS,
    WORD,
    WORDS,
    PlantedPair,
    PlantedStory,
    planted_pairs,
    planted_stories,
)
from emocircuits.numerics import generator

__all__ = [
    "AXES",
    "D_MODEL",
    "N_LAYERS",
    "PlantedPair",
    "PlantedStory",
    "expected_log_odds",
    "planted_pairs",
    "planted_stories",
    "write_planted_model",
]

N_HEADS, D_MLP, N_CTX = 4, 32, 128
STATE_GAIN = 4.0
PLAN_OFFSET, PLAN_GAIN, ACT_GATE, ACT_GAIN = 3.0, 0.5, 4.0, 0.25
CHEAT_ACT, CHEAT_OFFSET, CHEAT_DIRECT, ACTION_LOGIT = 1.2, 2.8, 0.25, 4.0


def write_planted_model(directory: str | Path) -> Path:
    """Writes the planted model as an ordinary Hugging Face directory; the same bytes every time."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_HEADS,
        max_position_embeddings=N_CTX,
        rms_norm_eps=1e-9,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        architectures=["LlamaForCausalLM"],
        dtype="float32",
    )
    config.save_pretrained(directory)
    save_file(_weights(), directory / "model.safetensors", metadata={"format": "pt"})
    _tokenizer().save_pretrained(directory)
    card = {
        "name": "planted",
        "description": "hand-set desperation -> cheat circuit, see emocircuits.models.planted.model",
    }
    (directory / "emocircuits_card.json").write_text(json.dumps(card) + "\n")
    return directory


def expected_log_odds(text: str) -> float:
    """Logit of `cheat` minus logit of `fix` after a prompt that ends with `decides`, by the
    formulas above.
    """
    words = text.split()
    count = Counter(CLASS_OF[word] for word in words if word in CLASS_OF)
    state = {c: STATE_GAIN * WORD * count[c] / (len(words) + 1) for c in CLASSES}
    r1 = math.sqrt(1 + sum(value**2 for value in state.values()) / D_MODEL)
    pull = state["desperate"] - state["calm"]
    plan = PLAN_GAIN * _silu((PLAN_OFFSET + pull) / r1) / r1
    r2 = math.sqrt(r1**2 + plan**2 / D_MODEL)
    act = ACT_GAIN * _silu(ACT_GATE * WORD / r2) * plan / r2
    r3 = math.sqrt(r2**2 + act**2 / D_MODEL)
    return (CHEAT_ACT * act - CHEAT_OFFSET + CHEAT_DIRECT * pull) / r3


def _silu(value: float) -> float:
    return value / (1 + math.exp(-value))


def _embedding() -> torch.Tensor:
    """Rows of norm sqrt(d_model): const, class or decision axis, and an identity that fills the rest."""
    rows = torch.zeros(len(WORDS), D_MODEL, dtype=torch.float64)
    free = D_MODEL - len(AXES)
    for number, word in enumerate(WORDS):
        row = rows[number]
        row[AXES["const"]] = CONST
        if word in CLASS_OF:
            row[AXES[f"word:{CLASS_OF[word]}"]] = WORD
        if word == DECISION:
            row[AXES["decision"]] = WORD
        identity = torch.from_numpy(generator(0, "planted identity", word).standard_normal(free))
        row[len(AXES) :] = identity / identity.norm() * math.sqrt(D_MODEL - float(row @ row))
    return rows


def _unembedding() -> torch.Tensor:
    rows = torch.zeros(len(WORDS), D_MODEL, dtype=torch.float64)
    row_of = {word: number for number, word in enumerate(WORDS)}
    for word, kind in (*CLASS_OF.items(), *((emotion, emotion) for emotion in EMOTIONS)):
        rows[row_of[word], AXES[f"state:{kind}"]] = 1.0
    for word, sign in ((CHEAT, 0.5), (HONEST, -0.5)):
        row = rows[row_of[word]]
        row[AXES["decision"]] = ACTION_LOGIT
        row[AXES["act"]] = sign * CHEAT_ACT
        row[AXES["const"]] = -sign * CHEAT_OFFSET / CONST
        row[AXES["state:desperate"]] = sign * CHEAT_DIRECT
        row[AXES["state:calm"]] = -sign * CHEAT_DIRECT
    return rows


def _weights() -> dict[str, torch.Tensor]:
    tensors = {
        "model.embed_tokens.weight": _embedding(),
        "lm_head.weight": _unembedding(),
        "model.norm.weight": torch.ones(D_MODEL),
    }
    for layer in range(N_LAYERS):
        head = f"model.layers.{layer}."
        for name in ("q", "k", "v", "o"):
            tensors[f"{head}self_attn.{name}_proj.weight"] = torch.zeros(D_MODEL, D_MODEL)
        for name, shape in (("gate", (D_MLP, D_MODEL)), ("up", (D_MLP, D_MODEL)), ("down", (D_MODEL, D_MLP))):
            tensors[f"{head}mlp.{name}_proj.weight"] = torch.zeros(*shape)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{head}{name}.weight"] = torch.ones(D_MODEL)
    for channel, kind in enumerate(CLASSES):
        tensors["model.layers.0.self_attn.v_proj.weight"][channel, AXES[f"word:{kind}"]] = 1.0
        tensors["model.layers.0.self_attn.o_proj.weight"][AXES[f"state:{kind}"], channel] = STATE_GAIN
    gate, up, down = (tensors[f"model.layers.1.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    gate[0, AXES["const"]], gate[0, AXES["state:desperate"]], gate[0, AXES["state:calm"]] = (
        PLAN_OFFSET / CONST,
        1.0,
        -1.0,
    )
    up[0, AXES["const"]], down[AXES["plan"], 0] = 1 / CONST, PLAN_GAIN
    gate, up, down = (tensors[f"model.layers.2.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    gate[0, AXES["decision"]], up[0, AXES["plan"]], down[AXES["act"], 0] = ACT_GATE, 1.0, ACT_GAIN
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in tensors.items()}


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
        model_max_length=N_CTX,
    )
