"""Trains one SAE per site with sae-lens' own `SAETrainer`, fed from an activation store.

Rows are scaled to unit variance while training (the scale is folded into the weights at the end), so one learning rate
fits all sites; `b_dec` starts at the mean of the rows, which keeps features alive where the mean is large
(Simon et al. 2026).
Every site is trained on one thread, so its weights do not depend on how many sites are trained at once.
Training that was stopped or killed goes on from its last checkpoint and ends with the same bytes.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from sae_lens import SAETrainer, TrainingSAE
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata

from emocircuits.artifacts.activation_store import ActivationStore
from emocircuits.errors import UserError, unknown
from emocircuits.progress import bar, say
from emocircuits.provenance import sha256_array, sha256_json
from emocircuits.sae.architecture import ARCHITECTURES
from emocircuits.sae.catalogue import is_trained, save_pair
from emocircuits.sae.checkpoint import Checkpoints
from emocircuits.sae.rows import held_out_blocks, moments, scaled_batches, training_rows
from emocircuits.sae.settings import SAESettings

CHECKPOINTS = ".checkpoints"
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
    checkpoint_minutes: float = 5.0,
    keep_checkpoints: int = 2,
) -> dict[str, Path]:
    """Trains an SAE for every site and writes `out_dir/<site>/cfg.json` and `sae_weights.safetensors`.

    Sites that are already trained with the same settings on the same rows are skipped; a site that was interrupted (SIGTERM
    and SIGINT included) or killed goes on from its last checkpoint in `out_dir/.checkpoints` and gives the same weights.

    Args:
        store: activations.
        sites: which sites.
        settings: how.
        out_dir: directory of the pairs.
        rows: rows of the store to learn from; by default all of prompts outside the split `held_out`, without the sink.
        workers: sites trained at the same time (one thread each).
        device: torch device.
        checkpoint_minutes: minutes between checkpoints of a site; 0 writes one after every step.
        keep_checkpoints: how many are kept.

    Returns:
        site -> directory of its pair.

    Raises:
        UserError: an unknown site or architecture, k > d_sae, no rows, or rows that are not finite.
        Failure: the disk is full or not writable; finished sites and the last checkpoints stay.
    """
    for site in sites:
        if site not in store.sites:
            raise unknown("site", site, store.sites)
    ARCHITECTURES.get(settings.architecture)
    settings.d_sae(store.d_model)
    if checkpoint_minutes < 0 or keep_checkpoints < 1:
        raise UserError(
            f"checkpoints every {checkpoint_minutes} minutes, {keep_checkpoints} kept",
            expected="minutes that are not negative and at least one kept",
        )
    rows = training_rows(store, settings.skip_positions) if rows is None else rows
    if len(rows) == 0:
        raise UserError(f"no rows of {store.path} to train SAEs on", cure="collect more texts")
    row_hash = sha256_array(rows)
    keys = {site: sha256_json([asdict(settings), store.content_hash, row_hash, site]) for site in sites}
    paths = {site: Path(out_dir) / site for site in sites}
    left = [site for site in sites if not is_trained(paths[site], keys[site])]
    if not left:
        return paths
    kept = Path(out_dir) / CHECKPOINTS
    stop, lock, threads = threading.Event(), threading.Lock(), torch.get_num_threads()
    with bar(len(left) * settings.steps, "train SAEs") as shown:

        def advance(steps: int) -> None:
            if stop.is_set():
                raise _Stopped
            with lock:
                shown.update(steps)

        def work(site: str) -> None:
            torch.set_num_threads(1)
            checkpoints = Checkpoints(kept / site, keys[site], checkpoint_minutes, keep_checkpoints)
            sae = train_one(store, site, settings, rows, device=device, after_step=advance, checkpoints=checkpoints)
            sae.cfg.metadata.training_key = keys[site]
            save_pair(sae, paths[site])
            checkpoints.clear()

        pool = ThreadPoolExecutor(max_workers=max(1, workers))
        try:
            with _sigterm_interrupts():
                # a copied context, so that a quiet caller has quiet threads
                for future in [pool.submit(copy_context().run, work, site) for site in left]:
                    future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
    if kept.is_dir() and not any(kept.iterdir()):
        kept.rmdir()
    return paths


def train_one(
    store: ActivationStore,
    site: str,
    settings: SAESettings,
    rows: Int[np.ndarray, "chosen"],
    *,
    device: str = "cpu",
    after_step: Callable[[int], None] = lambda steps: None,
    checkpoints: Checkpoints | None = None,
) -> TrainingSAE:
    """Trains the SAE of one site and makes it ready to be saved for inference.

    Args:
        store: activations.
        site: whose rows.
        settings: how.
        rows: rows to learn from.
        device: torch device.
        after_step: called at step boundaries with the number of steps since the last call; when it raises, a checkpoint is
            written first.
        checkpoints: where the state is kept and found; None keeps none.
    """
    member = ARCHITECTURES.get(settings.architecture)
    mean, deviation = moments(store, site, rows)
    gamma = float(np.linalg.norm(mean) / (deviation * np.sqrt(store.d_model)))
    say(f"{site}: {len(rows)} rows, gamma = |mean| / |sigma| = {gamma:.2f}")
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
    sae.W_dec.requires_grad_(not settings.frozen_decoder)
    trainer = make_trainer(sae, settings, device)
    done = checkpoints.restore(trainer) if checkpoints else 0
    if done:
        say(f"{site}: goes on from step {done} of {settings.steps}")
        after_step(done)
    batches = scaled_batches(store, site, rows, settings.batch_size, settings.seed, scale, start_step=done)
    saved = time.monotonic()
    # the loop of `SAETrainer.fit` over its public parts, without its own progress bar
    while trainer.n_training_samples < trainer.cfg.total_training_samples:
        trainer.maybe_reset_sparsity()
        trainer.step(next(batches))
        trainer.n_training_steps += 1
        if checkpoints and time.monotonic() - saved >= 60 * checkpoints.minutes:
            checkpoints.save(trainer)
            saved = time.monotonic()
        try:
            after_step(1)
        except BaseException:
            if checkpoints:
                checkpoints.save(trainer)
            raise
    trainer.set_final_sae_metadata()
    sae.fold_activation_norm_scaling_factor(scale)
    member.finish(sae, held_out_blocks(store, site, rows, settings.skip_positions))
    return sae


def make_trainer(sae: TrainingSAE, settings: SAESettings, device: str = "cpu") -> SAETrainer:
    """sae-lens' trainer with schedules that follow from the length of the run; batches are given to its `step`."""
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=settings.steps * settings.batch_size,
            train_batch_size_samples=settings.batch_size,
            lr=settings.lr,
            lr_end=settings.lr / 10,
            lr_warm_up_steps=settings.warm_up_steps,
            lr_decay_steps=settings.decay_steps,
            device=device,
            dead_feature_window=settings.dead_feature_window,
            feature_sampling_window=max(1, settings.steps // 2),
        ),
        sae=sae,
        data_provider=iter(()),
    )
    for group in trainer.optimizer.param_groups:
        group["fused"] = True  # one pass over weights, gradients and moments instead of six
    return trainer


class _Stopped(Exception):
    """Another site failed or the user stopped the run."""


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside, unless the program handles it already."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
