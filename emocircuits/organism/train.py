"""Training the organism from nothing: its own corpus, tokenizer and a stock llama, in a plain loop.

AdamW with warm-up and cosine decay over a fixed number of steps, bfloat16 products where the machine has
them, float32 weights. Where a C++ compiler is found the model is compiled, which is faster. Everything a step
needs is a function of (seed, step), so a run killed at any moment and started again ends with the same
weights.
"""

import csv
import io
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emocircuits.io.atomic import write_bytes, write_text
from emocircuits.organism.batches import BATCH_TOKENS, CHUNK, WIDTH_STEP, Batch, chunk_batches
from emocircuits.organism.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from emocircuits.organism.linear_loss import linear_cross_entropy
from emocircuits.organism.tokenizer import CONTEXT, SAMPLE, VOCABULARY, train_tokenizer
from emocircuits.progress import bar

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class TrainingSettings:
    """Size of the model and of the training run."""

    d_model: int = 128
    layers: int = 6
    heads: int = 4
    d_mlp: int = 384
    vocabulary: int = VOCABULARY
    tokenizer_sample: int = SAMPLE
    steps: int = 16_000
    warm_up: int = 100
    learning_rate: float = 3e-3
    final_rate: float = 0.04
    weight_decay: float = 0.05
    chunk: int = CHUNK
    batch_tokens: int = BATCH_TOKENS
    checkpoint_minutes: float = 1.0
    compiled: bool = True


def new_model(settings: TrainingSettings, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A randomly initialised llama of this size."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.d_model,
        intermediate_size=settings.d_mlp,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=settings.d_model**-0.5,
        attn_implementation="eager",  # ty: ignore[unknown-argument] - taken as a keyword of any config
    )
    return LlamaForCausalLM(config)


def rate(step: int, settings: TrainingSettings) -> float:
    """Learning rate at a step: linear warm-up, cosine to `final_rate` of the peak."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    low = settings.final_rate
    return settings.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def train_organism(
    out_dir: str | Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    resume: bool = True,
    settings: TrainingSettings | None = None,
) -> Path:
    """Trains tokenizer and model and writes an ordinary model directory.

    Args:
        out_dir: where the directory is made; a checkpoint inside it is continued when `resume`.
        seed: seed of corpus, initialisation and order.
        steps: number of optimiser steps (default: the shipped model's).
        resume: whether to continue a killed run.
        settings: sizes (default: the shipped model's).

    Returns:
        The directory.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    settings = settings or TrainingSettings()
    if steps is not None:
        settings = TrainingSettings(**{**asdict(settings), "steps": steps})
    tokenizer = train_tokenizer(seed, size=settings.vocabulary, sample=settings.tokenizer_sample)
    torch.manual_seed(seed)
    model = new_model(settings, tokenizer).train()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), eps=1e-8, fused=True)
    state = Checkpoint(asdict(settings), seed)
    if resume and (out / CHECKPOINT).exists():
        state = load_checkpoint(out / CHECKPOINT, model, optimiser, asdict(settings), seed)
    if settings.compiled:
        _compile(model)
    _loop(model, optimiser, tokenizer, settings, seed, state, out)
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    write_text(out / "loss.csv", _loss_table(state.losses))
    write_bytes(out / "loss.png", _loss_picture(state.losses))
    write_text(out / "training.json", state.summary())
    (out / CHECKPOINT).unlink(missing_ok=True)
    return out


def _compile(model: LlamaForCausalLM) -> None:
    """Compiles the model's forward and backward pass, always on the same first batch: the kernels depend on
    its shape.
    """
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return
    model.model.compile(dynamic=True)
    first = torch.arange(24 * 8 * WIDTH_STEP).reshape(24, -1) % model.config.vocab_size
    with torch.autocast("cpu", _dtype(), enabled=_dtype() != torch.float32):
        model.model(first, use_cache=False).last_hidden_state.sum().backward()
    model.zero_grad(set_to_none=True)


def _dtype() -> torch.dtype:
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def _loop(
    model: LlamaForCausalLM,
    optimiser: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
    settings: TrainingSettings,
    seed: int,
    state: Checkpoint,
    out: Path,
) -> None:
    dtype = _dtype()
    saved = started = time.monotonic()
    before = state.seconds
    with bar(settings.steps, "training the organism") as shown:
        shown.update(state.step)
        for number, batch in _batches(tokenizer, settings, seed, state):
            for group in optimiser.param_groups:
                group["lr"] = rate(state.step, settings)
            loss = train_step(model, optimiser, batch, dtype)
            state.step += 1
            state.chunk, state.inside = number
            state.tokens += batch.tokens
            state.documents += len(batch.ids)
            state.seconds = before + time.monotonic() - started
            if state.step % 20 == 0 or state.step == settings.steps:
                state.losses.append((state.step, state.tokens, round(loss, 5), round(state.seconds, 1)))
                shown.set_postfix_str(f"loss {loss:.3f}")
            shown.update(1)
            if state.step >= settings.steps:
                break
            if time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                save_checkpoint(out / CHECKPOINT, model, optimiser, state)
                write_text(out / "loss.csv", _loss_table(state.losses))
                saved = time.monotonic()


def _batches(
    tokenizer: PreTrainedTokenizerFast, settings: TrainingSettings, seed: int, state: Checkpoint
) -> Iterator[tuple[tuple[int, int], Batch]]:
    chunk, inside = state.chunk, state.inside
    while state.step < settings.steps:
        made = chunk_batches(tokenizer, chunk, seed, size=settings.chunk, batch_tokens=settings.batch_tokens)
        for number, batch in enumerate(made):
            if number >= inside:
                yield (chunk, number + 1), batch
        chunk, inside = chunk + 1, 0


def train_step(
    model: LlamaForCausalLM, optimiser: torch.optim.Optimizer, batch: Batch, dtype: torch.dtype
) -> float:
    """One step on one batch; returns the mean weighted loss in nats."""
    weights = batch.weights[:, 1:].reshape(-1)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        hidden = model.model(batch.ids[:, :-1], use_cache=False).last_hidden_state
    hidden = hidden.reshape(-1, hidden.shape[-1])
    targets = batch.ids[:, 1:].reshape(-1)
    loss = linear_cross_entropy(
        hidden, model.lm_head.weight, targets, weights / weights.sum(), batch.spread, dtype
    )
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def _loss_table(losses: list[tuple[int, int, float, float]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("step", "tokens", "loss", "seconds"))
    writer.writerows(losses)
    return text.getvalue()


def _loss_picture(losses: list[tuple[int, int, float, float]]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([row[1] / 1e6 for row in losses], [row[2] for row in losses], linewidth=0.8)
    axes.set_xlabel("tokens (millions)")
    axes.set_ylabel("loss (nats, action tokens weighted)")
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=120)
    return target.getvalue()
