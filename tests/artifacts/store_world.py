"""Small stores with known rows, for the tests of everything that reads or writes a store."""

import numpy as np
import pandas as pd

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter

SITES = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
META = {"model_name": "tiny", "model_hash": "abc"}


def plan(lengths, seed=0):
    rng = np.random.default_rng(seed)
    tokens = [rng.integers(0, 50, n) for n in lengths]
    prompts = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(len(lengths))],
            "emotion": ["joy" if i % 2 else None for i in range(len(lengths))],
            "named": [i % 3 == 0 for i in range(len(lengths))],
            "latent": rng.normal(size=len(lengths)),
        }
    )
    return prompts, tokens


def rows_of(lengths, d_model, seed=1):
    rng = np.random.default_rng(seed)
    return {site: [rng.normal(size=(n, d_model)).astype(np.float32) * 30 for n in lengths] for site in SITES}


def write(path, lengths, d_model=4, dtype="bfloat16", order=None, values=None, **options):
    prompts, tokens = plan(lengths)
    values = rows_of(lengths, d_model) if values is None else values
    with ActivationStoreWriter(path, SITES, d_model, prompts, tokens, META, dtype, **options) as writer:
        for chosen in order or [[i] for i in range(len(lengths))]:
            writer.append(chosen, {s: np.concatenate([values[s][i] for i in chosen]) for s in SITES})
        writer.finish()
    return ActivationStore.open(path), values


def bf16(array):
    import torch

    return torch.tensor(array).bfloat16().float().numpy()
