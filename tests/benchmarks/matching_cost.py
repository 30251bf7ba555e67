"""One match of a given size in a process of its own.

`python -m tests.benchmarks.matching_cost STORIES EMOTIONS FEATURES PERMUTATIONS` prints JSON: wall and
processor seconds, largest resident memory. Activations and SAE are random.
"""

import json
import resource
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from sae_lens import TopKSAE, TopKSAEConfig

from emocircuits.artifacts.directions import EmotionDirections
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.writer import ActivationStoreWriter
from emocircuits.directions.controls import unit_rows
from emocircuits.directions.settings import DirectionSettings
from emocircuits.matching import MatchSettings, match_features
from emocircuits.progress import quiet

SITE, WIDTH, LENGTH, FIRST, K = "blocks.0.hook_resid_post", 128, 40, 8, 32


def main() -> None:
    """Builds the material, matches, prints."""
    stories, emotions, features, n = map(int, sys.argv[1:5])
    torch.set_num_threads(2)
    with TemporaryDirectory() as folder, quiet():
        store = random_store(Path(folder) / "activations.h5", stories, emotions)
        sae, directions = random_sae(features), random_directions(emotions)
        before, begin, processor = _gib(), time.perf_counter(), time.process_time()
        found = match_features(store, {SITE: sae}, directions, MatchSettings(permutations=n))
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - processor
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "gib": _gib(),
                "gib_before": before,
                "kept": int(found.table["kept"].sum()),
            }
        )
    )


def random_store(path: Path, stories: int, emotions: int) -> ActivationStore:
    """Stories of random residual streams, as many of each emotion."""
    source = np.random.default_rng(0)
    prompts = pd.DataFrame(
        {
            "id": [f"s{place}" for place in range(stories)],
            "emotion": [f"e{place % emotions}" for place in range(stories)],
            "kind": "story",
            "named": False,
            "split": "train",
        }
    )
    with ActivationStoreWriter(
        path, (SITE,), WIDTH, prompts, [np.arange(LENGTH)] * stories, {"model_hash": "m"}, "float32"
    ) as writer:
        for first in range(0, stories, 200):
            count = min(200, stories - first)
            writer.append(
                np.arange(first, first + count),
                {SITE: source.standard_normal((count * LENGTH, WIDTH)).astype(np.float32)},
            )
        writer.finish()
    return ActivationStore.open(path)


def random_sae(features: int) -> TopKSAE:
    """A TopK SAE with random unit rows."""
    torch.manual_seed(0)
    sae = TopKSAE(TopKSAEConfig(d_in=WIDTH, d_sae=features, k=K))
    rows = torch.nn.functional.normalize(torch.randn(features, WIDTH), dim=1)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    return sae


def random_directions(emotions: int) -> EmotionDirections:
    """Random unit directions."""
    vectors = unit_rows(np.random.default_rng(1).standard_normal((1, emotions, WIDTH)))
    ones = np.ones((1, emotions), np.float32)
    return EmotionDirections(
        vectors=vectors,
        norms=ones,
        mean=np.zeros((1, WIDTH), np.float32),
        residual_norm=np.ones(1, np.float32),
        held_out_auroc=ones,
        sites=(SITE,),
        emotions=tuple(f"e{number}" for number in range(emotions)),
        estimator="difference_of_means",
        settings=asdict(DirectionSettings(from_token=FIRST)),
        controls={},
        model_hash="m",
        read_site=SITE,
        steer_site=SITE,
    )


def _gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
