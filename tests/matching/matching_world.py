"""A planted world: known features with known causes, an SAE that is their dictionary, and stories that show
emotions.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from sae_lens import StandardSAE, StandardSAEConfig
from sae_lens.saes.sae import SAEMetadata

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter

SITES = ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post")
EMOTIONS = ("angry", "calm", "desperate", "joyful")
D, FEATURES, PER_EMOTION, LENGTH, FIRST = 64, 40, 24, 14, 3
OWN = {"angry": (0, 1), "calm": (2, 3), "desperate": (4, 5), "joyful": (6, 7)}
SHARED, DENSE, DEAD, RARE = 8, 9, 10, 11  # RARE fires in three stories of one emotion only


@dataclass
class World:
    store: ActivationStore
    saes: dict
    directions: EmotionDirections
    acts: np.ndarray  # (row, feature) the truth at every site


def sae_of(site: str, seed: int) -> StandardSAE:
    """Nearly orthogonal rows; a bias of -0.05 makes relu(W x - b) leave out small overlaps."""
    rows = np.linalg.qr(np.random.default_rng(seed).normal(size=(D, D)))[0][:FEATURES].astype(np.float32)
    sae = StandardSAE(StandardSAEConfig(d_in=D, d_sae=FEATURES, metadata=SAEMetadata(hook_name=site)))
    with torch.no_grad():
        sae.W_dec.copy_(torch.from_numpy(rows))
        sae.W_enc.copy_(torch.from_numpy(rows.T.copy()))
        sae.b_enc.fill_(-0.05)
        sae.b_dec.fill_(1.5)
    return sae


def build(
    directory, *, effect: float = 1.0, seed: int = 0, per_emotion: int = PER_EMOTION, noise: float = 0.02
) -> World:
    rng = np.random.default_rng(seed)
    n = per_emotion * len(EMOTIONS)
    labels = rng.permutation(np.repeat(np.arange(len(EMOTIONS)), per_emotion))
    fires = rng.random((n, LENGTH, FEATURES)) < 0.06
    acts = fires * rng.uniform(0.5, 1.5, size=fires.shape)
    acts[:, :, [DENSE]] = rng.uniform(0.5, 1.5, size=(n, LENGTH, 1))
    acts[:, :, [DEAD, RARE]] = 0
    acts *= rng.uniform(0.5, 1.5, size=(n, 1, FEATURES))  # stories differ
    for story, label in enumerate(labels):
        for feature in (*OWN[EMOTIONS[label]], SHARED):
            more = rng.random(LENGTH) < 0.5 * effect
            acts[story, :, feature] += more * rng.uniform(0.5, 1.5, size=LENGTH)
    acts[np.flatnonzero(labels == 2)[:3], 4, RARE] = 5.0
    saes = {site: sae_of(site, number) for number, site in enumerate(SITES)}
    flat = acts.reshape(-1, FEATURES)
    values = {
        site: (flat @ sae.W_dec.detach().numpy() + 1.5 + noise * rng.normal(size=(len(flat), D))).astype(
            np.float32
        )
        for site, sae in saes.items()
    }
    for site in SITES:
        values[site][::LENGTH] = 900.0  # the sink
    prompts = pd.DataFrame(
        {
            "id": [f"s{i}" for i in range(n)],
            "emotion": [EMOTIONS[label] for label in labels],
            "kind": "story",
            "named": False,
            "split": ["held_out" if i % 3 == 0 else "train" for i in range(n)],
        }
    )
    path = directory / "activations.h5"
    with ActivationStoreWriter(
        path, SITES, D, prompts, [np.arange(LENGTH)] * n, {"model_hash": "m"}, "float32"
    ) as writer:
        writer.append(np.arange(n), values)
        writer.finish()
    store = ActivationStore.open(path)
    fit = np.flatnonzero(prompts["split"] == "train")
    means = np.stack([values[s].reshape(n, LENGTH, D)[:, FIRST:].mean(1) for s in SITES])
    by_emotion = np.stack([means[:, fit[labels[fit] == e]].mean(1) for e in range(len(EMOTIONS))], axis=1)
    raw = by_emotion - by_emotion.mean(1, keepdims=True)
    norms = np.linalg.norm(raw, axis=2)
    directions = EmotionDirections(
        vectors=(raw / norms[:, :, None]).astype(np.float32),
        norms=norms.astype(np.float32),
        mean=by_emotion.mean(1).astype(np.float32),
        residual_norm=np.ones(2, np.float32),
        held_out_auroc=np.full((2, 4), 0.9, np.float32),
        sites=SITES,
        emotions=EMOTIONS,
        estimator="difference_of_means",
        controls={},
        model_hash="m",
        read_site=SITES[1],
        steer_site=SITES[0],
        settings={
            "from_token": FIRST,
            "story_kinds": ["story"],
            "named": False,
            "fit_split": "train",
            "held_out_split": "held_out",
        },
    )
    return World(store, saes, directions, acts)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return build(tmp_path_factory.mktemp("world"))
