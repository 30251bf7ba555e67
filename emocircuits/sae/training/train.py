"""Trains one SAE per site from an activation store: several sites at a time, or the ranks of a job together.

Every site is trained on one thread, so its weights do not depend on how many sites are trained at once.
Training that was stopped or killed resumes from its last checkpoint and ends with the same bytes.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from sae_lens import SAE, TrainingSAE

from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.artifacts.store.row_selection import RowSelection
from emocircuits.errors import UserError
from emocircuits.names import sites_of
from emocircuits.progress import bar, say
from emocircuits.provenance import sha256_json
from emocircuits.ranks import barrier, ranks
from emocircuits.sae.architectures.card import ARCHITECTURES
from emocircuits.sae.catalogue import is_trained, save_pair
from emocircuits.sae.loading.handle import load_sae
from emocircuits.sae.rows import as_selection, held_out_blocks, moments, scaled_batches, training_rows
from emocircuits.sae.settings import SAESettings
from emocircuits.sae.training.checkpoint import Checkpoints
from emocircuits.sae.training.trainer import SiteRows, Training

CHECKPOINTS = ".checkpoints"


def train_saes(
    store: ActivationStore,
    out_dir: str | Path,
    settings: SAESettings | None = None,
    *,
    layers: Sequence[int | str] | None = None,
    seed: int = 0,
    rows: Int[np.ndarray, "chosen"] | RowSelection | None = None,
    device: str = "cpu",
) -> dict[str, SAE]:
    """Trains an SAE for every site and writes `out_dir/<site>/cfg.json` and `sae_weights.safetensors`.

    Sites that are already trained with the same settings on the same rows are skipped; a site that was
    interrupted (SIGTERM and SIGINT included) or killed resumes from its last checkpoint in
    `out_dir/.checkpoints` and gives the same weights. The ranks of a job (`emocircuits.ranks`) take sites
    in turn, or with `settings.spread = "batches"` their parts of every batch of one site after the other.

    Args:
        store: activations.
        out_dir: directory of the pairs.
        settings: how; by default those of the `[sae]` table.
        layers: numbers of layers, or their sites; all of the store by default.
        seed: seed of initial weights and order of rows.
        rows: rows of the store to learn from; by default those that `training_rows` gives.
        device: torch device of the training.

    Returns:
        site -> SAE, opened from its pair.

    Raises:
        UserError: an unknown site or architecture, k > d_sae, no rows, or rows that are not finite.
        Failure: the disk is full or not writable; finished sites and the last checkpoints stay.
    """
    sites, settings = sites_of(layers, store.sites), settings or SAESettings()
    check(settings, store.d_model)
    rows = as_selection(training_rows(store, settings) if rows is None else rows, store.n_rows)
    if len(rows) == 0:
        raise UserError(f"no rows of {store.path} to train SAEs on", cure="collect more texts")
    keys = {site: training_key(settings, seed, store.content_hash, rows.content_hash, site) for site in sites}
    paths = {site: Path(out_dir) / site for site in sites}
    together = not ranks().alone and settings.spread == "batches"
    mine = sites if together else ranks().shard(sites)
    left = [site for site in mine if not is_trained(paths[site], keys[site])]
    barrier()  # all ranks see the same state

    def work(site: str, advance: Callable[[int], None]) -> None:
        checkpoints = Checkpoints(Path(out_dir) / CHECKPOINTS / site, keys[site], settings.checkpoint_minutes)
        sae = train_one(
            store,
            site,
            settings,
            rows,
            seed=seed,
            device=device,
            after_step=advance,
            checkpoints=checkpoints,
            together=together,
        )
        sae.cfg.metadata.training_key = keys[site]
        if ranks().first or not together:
            save_pair(sae, paths[site], settings.weights_dtype)
            checkpoints.clear()

    train_together(work, left, settings.steps, 1 if together else settings.workers)
    barrier()
    remove_if_empty(Path(out_dir) / CHECKPOINTS)
    return {site: load_sae(path, site=site, d_in=store.d_model) for site, path in paths.items()}


def check(settings: SAESettings, d_model: int) -> None:
    """Refuses settings that cannot work, before anything is read or written.

    Raises:
        UserError: an unknown architecture, k > d_sae, or a batch that the ranks cannot share.
    """
    ARCHITECTURES.get(settings.architecture)
    settings.d_sae(d_model)
    if settings.spread == "batches" and settings.batch_size % ranks().size:
        raise UserError(
            f"sae.batch_size is {settings.batch_size}", expected=f"a multiple of the {ranks().size} ranks"
        )


def training_key(settings: SAESettings, seed: int, *origin: str) -> str:
    """Hash of everything that shapes a trained SAE: settings, seed and the rows' origin."""
    return sha256_json([{**settings.shaping, "seed": seed}, *origin])


def train_together(
    work: Callable[[str, Callable[[int], None]], None], sites: Sequence[str], steps: int, workers: int
) -> None:
    """Calls `work` for every site, `workers` at a time on one thread each; when one fails or the user stops,
    all stop.

    Args:
        work: (site, function to be called with the number of steps done, which raises when all shall stop) ->
            nothing.
        sites: the sites.
        steps: steps of one site, for the progress bar.
        workers: how many at a time.
    """
    if not sites:
        return
    stop, lock, threads = threading.Event(), threading.Lock(), torch.get_num_threads()
    with bar(len(sites) * steps, "train SAEs") as shown:

        def advance(done: int) -> None:
            if stop.is_set():
                raise _Stopped
            with lock:
                shown.update(done)

        def one(site: str) -> None:
            torch.set_num_threads(1)
            work(site, advance)

        pool = ThreadPoolExecutor(max_workers=max(1, workers))
        try:
            with sigterm_interrupts():
                # a copied context, so that a quiet caller has quiet threads
                for future in [pool.submit(copy_context().run, one, site) for site in sites]:
                    future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def train_one(
    store: ActivationStore,
    site: str,
    settings: SAESettings,
    rows: Int[np.ndarray, "chosen"] | RowSelection,
    *,
    seed: int = 0,
    device: str = "cpu",
    after_step: Callable[[int], None] = lambda steps: None,
    checkpoints: Checkpoints | None = None,
    together: bool = False,
) -> TrainingSAE:
    """Trains the SAE of one site and makes it ready to be saved for inference.

    Args:
        store: activations.
        site: whose rows.
        settings: how.
        rows: rows to learn from.
        seed: seed of initial weights and order of rows.
        device: torch device.
        after_step: called at step boundaries with the number of steps since the last call; when it raises, a
            checkpoint is written first.
        checkpoints: where the state is kept and found; None keeps none.
        together: whether the ranks of a job train it together, each on its part of every batch.
    """
    rows = as_selection(rows, store.n_rows)
    mean, deviation = moments(store, site, rows)
    about = {
        "model_name": store.metadata.get("model_name"),
        "model_hash": store.metadata.get("model_hash"),
        "store_hash": store.content_hash,
    }
    source = SiteRows(site, mean, deviation, about)
    say(f"{site}: {len(rows)} rows, gamma = |mean| / |sigma| = {source.mean_to_spread:.2f}")
    training = Training(
        source, settings, seed=seed, device=device, checkpoints=checkpoints, together=together
    )
    batches = scaled_batches(
        store, site, rows, settings.batch_size, seed, source.scale, start_step=training.steps_done
    )
    training.run(batches, after_step)
    return training.finish(held_out_blocks(store, site, rows, settings.skip_positions))


def remove_if_empty(folder: Path) -> None:
    """Removes a directory that holds nothing any more."""
    if ranks().first and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


class _Stopped(Exception):
    """Another site failed or the user stopped the run."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside, unless the program handles it already."""
    mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if mine:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
