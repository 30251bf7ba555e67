"""How good the organism's SAEs are at every layer, and how they compare with sae-lens' own training on the
same tokens.

`python -m tests.benchmarks.sae_quality RUN` reads the activations of a finished run. TopK is trained here and
by sae-lens' `SAETrainer.fit` with its own start, scale and dead-feature settings, the same rows, steps,
learning rate and seeds; matching pursuit, which reconstructs best, once. Bars: FVU ≤ 0.05 at k ≤ 32 and d_sae
= 8 · d_model, dead ≤ 2 %, CE recovered ≥ 0.98, and TopK never worse than sae-lens' beyond the spread over
seeds. Everything is measured on held-out rows.
"""

import argparse
import json
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sae_lens import SAE, SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.experiments.sae_quality import quality_rows
from emocircuits.models import load_model
from emocircuits.progress import quiet
from emocircuits.sae import (
    SAESettings,
    held_out_rows,
    reconstruction,
    train_saes,
    training_rows,
)

SEEDS = (0, 1, 2)
BARS = {"fvu": 0.05, "dead_fraction": 0.02, "ce_loss_recovered": 0.98}


def by_sae_lens(store: ActivationStore, site: str, settings: SAESettings, seed: int, out: Path) -> SAE:
    """sae-lens' own training: its start of b_dec, its scaling to √d_in, its default auxiliary loss and
    dead-feature window.
    """
    torch.manual_seed(seed)
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(
            d_in=store.d_model,
            d_sae=settings.d_sae(store.d_model),
            k=settings.k,
            normalize_activations="expected_average_only_in",
        )
    )
    batches = map(
        torch.from_numpy,
        store.shuffled_batches(site, settings.batch_size, seed, rows=training_rows(store, settings)),
    )
    config = SAETrainerConfig(
        total_training_samples=settings.steps * settings.batch_size,
        train_batch_size_samples=settings.batch_size,
        lr=settings.lr,
        lr_end=settings.lr / 10,
        lr_warm_up_steps=settings.warm_up_steps,
        lr_decay_steps=settings.decay_steps,
        n_batches_for_norm_estimate=50,
    )
    SAETrainer(config, sae, batches).fit()
    sae.save_inference_model(out)
    return SAE.load_from_disk(out)


def fvu_of(sae: SAE, store: ActivationStore, site: str) -> float:
    """On held-out rows."""
    return reconstruction(sae, store, site, held_out_rows(store)).fvu


def site_numbers(
    store: ActivationStore, site: str, settings: SAESettings, folder: Path
) -> dict[str, list[float]]:
    """FVU of every seed, here and by sae-lens."""
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {"ours": [], "sae_lens": []}
    with quiet():
        for seed in SEEDS:
            sae = train_saes(store, folder / f"ours-{seed}", settings, layers=[site], seed=seed)[site]
            found["ours"].append(fvu_of(sae, store, site))
            found["sae_lens"].append(
                fvu_of(
                    by_sae_lens(store, site, settings, seed, folder / f"theirs-{seed}-{site}"), store, site
                )
            )
    return found


def main() -> None:
    """Prints two tables and, where asked, JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run directory of the organism")
    parser.add_argument("--rows", type=int, default=600_000, metavar="N", help="training rows of every SAE")
    parser.add_argument("--sites", type=int, metavar="N", help="only the first N sites")
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="sites at a time, one thread each"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    arguments = parser.parse_args()
    store = ActivationStore.open(arguments.run / "activations.h5")
    sites = store.sites[: arguments.sites]
    topk = SAESettings(training_rows=arguments.rows)
    pursuit = SAESettings(architecture="matching_pursuit", lr=3e-3, training_rows=arguments.rows)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(arguments.workers) as pool:
        folder = Path(name)
        pairs = list(pool.map(lambda site: site_numbers(store, site, topk, folder), sites))
        print(
            f"TopK, k {topk.k}, d_sae {topk.d_sae(store.d_model)}, {arguments.rows} rows, FVU over "
            f"{len(SEEDS)} seeds, held-out"
        )
        for site, pair in zip(sites, pairs, strict=True):
            ours, theirs = (statistics.mean(pair[key]) for key in ("ours", "sae_lens"))
            noise = 2 * float(np.hypot(*(np.std(pair[key], ddof=1) for key in pair)) / np.sqrt(len(SEEDS)))
            print(
                f"{'ok ' if ours <= theirs + noise else 'NO '} {site}  ours {ours:.4f}  sae-lens "
                f"{theirs:.4f}  noise {noise:.4f}",
                flush=True,
            )
        model, rows = load_model("organism"), []
        with quiet():
            for kind, settings in (("topk", topk), ("matching_pursuit", pursuit)):
                saes = train_saes(
                    store, folder / kind, replace(settings, workers=arguments.workers), layers=sites
                )
                rows += quality_rows(model.bridge, saes, store)
        for row in rows:
            misses = [
                key
                for key, bar in BARS.items()
                if (row[key] < bar if key == "ce_loss_recovered" else row[key] > bar)
            ]
            numbers = "  ".join(f"{key} {row[key]:.4f}" for key in ("l0", *BARS))
            print(
                f"{'NO ' if misses else 'ok '} {row['architecture']:<17} {row['site']}  {numbers}  "
                f"{', '.join(misses)}",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"topk": dict(zip(sites, pairs, strict=True)), "quality": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
