"""How well the model's action probabilities agree with the truth, on combinations it has never seen.

The model's P(action) is its next-token distribution restricted to the action words; the truth is the
Bayes-optimal probability given the text (`bayes.expected`), and next to it the probability given the latent
levels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from emocircuits.errors import UserError
from emocircuits.organism.corpus import generate, make_document
from emocircuits.organism.documents import Decision
from emocircuits.organism.pairs import minimal_pairs
from emocircuits.organism.world import APPRAISALS
from emocircuits.progress import track

MEASURED = ("inbox", "coding", "sycophancy", "preference", "story")


def load_organism(model_dir: str | Path) -> tuple[torch.nn.Module, PreTrainedTokenizerFast]:
    """Model (in evaluation mode) and tokenizer of a directory.

    Raises:
        UserError: the directory holds no model.
    """
    if not (Path(model_dir) / "model.safetensors").exists():
        raise UserError(f"no model in {model_dir}", expected="a directory with model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(
        model_dir, attn_implementation="eager", local_files_only=True
    )
    return model.eval(), AutoTokenizer.from_pretrained(model_dir, local_files_only=True)


@torch.no_grad()
def option_probabilities(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    prefixes: Sequence[str],
    options: Sequence[Sequence[str]],
) -> Float[np.ndarray, "prompt"]:
    """P(first option), among the options, right after every prefix."""
    ids = [tokenizer.encode(prefix) for prefix in prefixes]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    result = np.zeros(len(ids))
    for start in range(0, len(order), 24):
        rows = order[start : start + 24]
        width = max(len(ids[row]) for row in rows)
        batch = torch.full((len(rows), width), tokenizer.pad_token_id)
        for line, row in enumerate(rows):
            batch[line, : len(ids[row])] = torch.tensor(ids[row])
        hidden = model.model(batch, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(rows)), torch.tensor([len(ids[row]) - 1 for row in rows])]
        logits = model.lm_head(last)
        for line, row in enumerate(rows):
            columns = [tokenizer.convert_tokens_to_ids(f"\u2581{word}") for word in options[row]]
            result[row] = torch.softmax(logits[line, columns].double(), 0)[0].item()
    return result


def fit_to_truth(
    model_p: Float[np.ndarray, "prompt"], truth_p: Float[np.ndarray, "prompt"]
) -> dict[str, float]:
    """Pearson r and mean absolute error."""
    r = float(np.corrcoef(model_p, truth_p)[0, 1])
    return {"r": round(r, 4), "mae": round(float(np.abs(model_p - truth_p).mean()), 4)}


def evaluate_calibration(model_dir: str | Path, n: int = 400, *, seed: int = 1000) -> dict[str, dict]:
    """Calibration on `n` held-out documents per behaviour.

    Args:
        model_dir: directory of the model.
        n: documents per behaviour.
        seed: seed of the documents.

    Returns:
        Per behaviour r and mae against the Bayes-optimal probability, `r_latent` and `mae_latent` against the
        probability given the latent levels, n; and `p_cheat_by_failures`, `neutral_inbox`.
    """
    model, tokenizer = load_organism(model_dir)
    table: dict[str, dict] = {}
    for kind in track(MEASURED, "calibration", total=len(MEASURED)):
        decisions = [d for doc in generate(kind, n, seed, "held_out") for d in doc.decisions]
        table[kind] = _compare(model, tokenizer, decisions)
    table["p_cheat_by_failures"] = cheat_by_failures(model, tokenizer, max(12, n // 8), seed)
    level = dict.fromkeys(APPRAISALS, 0)
    flat = [
        make_document("inbox", index, seed=seed, levels=level).decisions[0]
        for index in range(max(40, n // 2))
    ]
    table["neutral_inbox"] = {"model": round(float(_read(model, tokenizer, flat).mean()), 4), "truth": 0.22}
    return table


def _read(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, decisions: Sequence[Decision]
) -> np.ndarray:
    return option_probabilities(
        model, tokenizer, [d.prefix for d in decisions], [d.options for d in decisions]
    )


def _compare(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, decisions: Sequence[Decision]
) -> dict:
    model_p = _read(model, tokenizer, decisions)
    bayes = fit_to_truth(model_p, np.array([d.p_bayes for d in decisions]))
    latent = fit_to_truth(model_p, np.array([d.p_true for d in decisions]))
    return {**bayes, **{f"{key}_latent": value for key, value in latent.items()}, "n": len(decisions)}


def cheat_by_failures(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, n: int, seed: int
) -> dict[str, list[float]]:
    """Mean P(cheat) after 0 … 5 failures on held-out prompts, model and truth."""
    rows: dict[str, list[float]] = {"model": [], "truth": []}
    for failures in range(6):
        pairs = minimal_pairs("coding", n, seed, "held_out", tokenizer, failures=failures)
        prompts = [text for pair in pairs for text in (pair.clean, pair.corrupt)]
        probabilities = option_probabilities(model, tokenizer, prompts, [pairs[0].options] * len(prompts))
        rows["model"].append(round(float(probabilities.mean()), 4))
        rows["truth"].append(
            round(float(np.mean([p for pair in pairs for p in (pair.p_clean, pair.p_corrupt)])), 4)
        )
    return rows
