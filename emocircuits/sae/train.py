"""Trains one SAE per site with sae-lens' own `SAETrainer`, fed from an activation store.

Rows are scaled to unit variance while training (the scale is folded into the weights at the end), so one learning rate
fits all sites; `b_dec` starts at the mean of the rows, which keeps features alive where the mean is large
(Simon et al. 2026).
Every site is trained on one thread, so its weights do not depend on how many sites are trained at once.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAETrainer, TrainingSAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata

from emocircuits.artifacts.activation_store import ActivationStore
from emocircuits.errors import UserError, unknown
from emocircuits.progress import bar, say
from emocircuits.provenance import sha256_array, sha256_json
from emocircuits.sae.architecture import ARCHITECTURES
from emocircuits.sae.catalogue import is_trained, save_pair
from emocircuits.sae.settings import SAESettings

MOMENT_ROWS = 1 << 17
_SEEDING = threading.Lock()


def train_saes(
    store: ActivationStore,
    sites: Sequence[str],
    settings: SAESettings,
    out_dir: str | Path,
    *,
    rows: Int[np.ndarray, "chosen"] | None = None,
    workers: int = 2,
    device: str = "cpu",
) -> dict[str, Path]:
    """Trains an SAE for every site and writes `out_dir/<site>/cfg.json` and `sae_weights.safetensors`.

    Sites that are already trained with the same settings on the same rows are skipped; a site that was interrupted starts
    again and gives the same weights.

    Args:
        store: activations.
        sites: which sites.
        settings: how.
        out_dir: directory of the pairs.
        rows: rows of the store to learn from; by default all of prompts outside the split `held_out`, without the sink.
        workers: sites trained at the same time (one thread each).
        device: torch device.

    Returns:
        site -> directory of its pair.

    Raises:
        UserError: an unknown site or architecture, k > d_sae, or no rows.
    """
    for site in sites:
        if site not in store.sites:
            raise unknown("site", site, store.sites)
    ARCHITECTURES.get(settings.architecture)
    settings.d_sae(store.d_model)
    rows = training_rows(store, settings.skip_positions) if rows is None else rows
    if len(rows) == 0:
        raise UserError(f"no rows of {store.path} to train SAEs on", cure="collect more texts")
    row_hash = sha256_array(rows)
    keys = {site: sha256_json([asdict(settings), store.content_hash, row_hash, site]) for site in sites}
    paths = {site: Path(out_dir) / site for site in sites}
    left = [site for site in sites if not is_trained(paths[site], keys[site])]
    if not left:
        return paths
    stop, lock, threads = threading.Event(), threading.Lock(), torch.get_num_threads()
    with bar(len(left) * settings.steps, "train SAEs") as shown:

        def advance() -> None:
            if stop.is_set():
                raise _Stopped
            with lock:
                shown.update(1)

        def work(site: str) -> None:
            torch.set_num_threads(1)
            sae = train_one(store, site, settings, rows, device=device, after_step=advance)
            sae.cfg.metadata.training_key = keys[site]
            save_pair(sae, paths[site])

        pool = ThreadPoolExecutor(max_workers=max(1, workers))
        try:
            for future in [pool.submit(work, site) for site in left]:
                future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
    return paths


def train_one(
    store: ActivationStore,
    site: str,
    settings: SAESettings,
    rows: Int[np.ndarray, "chosen"],
    *,
    device: str = "cpu",
    after_step: Callable[[], None] = lambda: None,
) -> TrainingSAE:
    """Trains the SAE of one site and makes it ready to be saved for inference."""
    member = ARCHITECTURES.get(settings.architecture)
    mean, deviation = moments(store, site, rows)
    gamma = float(np.linalg.norm(mean) / (deviation * np.sqrt(store.d_model)))
    say(f"{site}: {len(rows)} rows, |mean| / spread = {gamma:.2f}")
    scale = float(1 / deviation)
    metadata = SAEMetadata(
        model_name=store.metadata.get("model_name"),
        model_hash=store.metadata.get("model_hash"),
        hook_name=site,
        prepend_bos=True,
        store_hash=store.content_hash,
        training=asdict(settings),
        mean_to_spread=gamma,
    )
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        sae = member.build(settings, store.d_model, metadata, device)
    sae.b_dec.data = torch.from_numpy(mean * scale).float().to(device)
    steps, batch = settings.steps, settings.batch_size
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=steps * batch,
            train_batch_size_samples=batch,
            lr=settings.lr,
            lr_end=settings.lr / 10,
            lr_warm_up_steps=settings.warm_up_steps,
            lr_decay_steps=settings.decay_steps,
            device=device,
            dead_feature_window=settings.dead_feature_window,
            feature_sampling_window=max(1, steps // 2),
        ),
        sae=sae,
        data_provider=_scaled(store.shuffled_batches(site, batch, settings.seed, rows=rows), scale),
    )
    # the loop of `SAETrainer.fit` over its public parts, without its own progress bar
    while trainer.n_training_samples < trainer.cfg.total_training_samples:
        trainer.maybe_reset_sparsity()
        trainer.step(next(trainer.data_provider))
        trainer.n_training_steps += 1
        after_step()
    trainer.set_final_sae_metadata()
    sae.fold_activation_norm_scaling_factor(scale)
    member.finish(sae)
    return sae


def training_rows(store: ActivationStore, skip_positions: int = 1) -> Int[np.ndarray, "chosen"]:
    """Rows of prompts outside the split `held_out` (of all where nothing else is left), without the first positions."""
    split = store.prompts["split"].to_numpy() if "split" in store.prompts else np.full(store.n_prompts, "")
    learn = split != "held_out"
    return store.select(learn if learn.any() else np.ones_like(learn), start=skip_positions)


def moments(
    store: ActivationStore, site: str, rows: Int[np.ndarray, "chosen"]
) -> tuple[Float[np.ndarray, "d_model"], float]:
    """Mean and root mean square deviation per coordinate, from evenly spaced rows; float64."""
    sample = rows[:: max(1, len(rows) // MOMENT_ROWS)]
    count, total, square = 0, np.zeros(store.d_model), np.zeros(store.d_model)
    origin = store.read(site, sample[:1])[0].astype(np.float64)
    for _, block in store.blocks(site, sample):
        shifted = block.astype(np.float64) - origin
        count, total, square = count + len(block), total + shifted.sum(0), square + (shifted * shifted).sum(0)
    variance = float((square / count - (total / count) ** 2).mean())
    if not variance > 0:
        raise UserError(f"the activations at {site} do not vary", cure="collect more texts")
    return origin + total / count, float(np.sqrt(variance))


class _Stopped(Exception):
    """Another site failed or the user stopped the run."""


def _scaled(batches: Iterator[np.ndarray], scale: float) -> Iterator[torch.Tensor]:
    for batch in batches:
        yield torch.from_numpy(batch).mul_(scale)
