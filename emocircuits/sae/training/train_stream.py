"""Trains the SAEs of several sites in lockstep from one stream, e.g. straight from a model without a store.

Every step draws one batch of rows that all sites share, so one forward pass of the model serves all SAEs.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emocircuits.artifacts.store.seekable_stream import SeekableStream
from emocircuits.errors import Failure, UserError
from emocircuits.progress import bar, say
from emocircuits.sae.architectures.card import Blocks
from emocircuits.sae.catalogue import is_trained, save_pair
from emocircuits.sae.rows import HELD_OUT_ROWS, moments_of
from emocircuits.sae.settings import SAESettings
from emocircuits.sae.training.checkpoint import Checkpoints
from emocircuits.sae.training.train import (
    CHECKPOINTS,
    check,
    remove_if_empty,
    sigterm_interrupts,
    training_key,
)
from emocircuits.sae.training.trainer import SiteRows, Training


def train_from_stream(
    stream: SeekableStream,
    settings: SAESettings,
    out_dir: str | Path,
    *,
    origin: str,
    about: dict[str, Any],
    device: str = "cpu",
) -> dict[str, Path]:
    """Trains an SAE for every site of a stream and writes `out_dir/<site>/cfg.json` and
    `sae_weights.safetensors`.

    Mean and spread come from the stream's first window; what is measured after training (the threshold of the
    BatchTopK kinds) from the batches after the last one, which are new to the SAEs unless the stream has
    begun to repeat itself. Interrupted or killed training resumes from its last checkpoints and gives the
    same weights.

    Args:
        stream: the rows, whose seed is also that of the weights; its batch size must be that of the settings.
        settings: how.
        out_dir: directory of the pairs.
        origin: hash of what the stream draws from: another origin is another training.
        about: `model_name`, `model_hash` and the like, for the SAEs' metadata.
        device: torch device of the SAEs.

    Raises:
        UserError: settings that do not fit the stream, k > d_sae, or rows that are not finite.
        Failure: the disk is full or not writable; finished sites and the last checkpoints stay.
    """
    check(settings, stream.d_model)
    if stream.batch_size != settings.batch_size:
        raise UserError(
            f"a stream with batch_size {stream.batch_size}",
            expected=f"{settings.batch_size}, as in the settings",
        )
    keys = {site: training_key(settings, stream.seed, origin, site) for site in stream.sites}
    paths = {site: Path(out_dir) / site for site in stream.sites}
    left = [site for site in stream.sites if not is_trained(paths[site], keys[site])]
    if not left:
        return paths
    kept, first = Path(out_dir) / CHECKPOINTS, range(max(1, stream.window // stream.batch_size))
    trainings, threads = {}, torch.get_num_threads()
    for site in left:
        found = moments_of((_batch(stream, site, step).numpy() for step in first), site)
        source = SiteRows(site, *found, about)
        say(f"{site}: gamma = |mean| / |sigma| = {source.mean_to_spread:.2f}")
        checkpoints = Checkpoints(kept / site, keys[site], settings.checkpoint_minutes)
        trainings[site] = Training(source, settings, seed=stream.seed, device=device, checkpoints=checkpoints)
    with sigterm_interrupts():
        try:
            # leaving the pool waits for steps that have begun: only whole steps are saved
            with ThreadPoolExecutor(
                settings.workers, initializer=torch.set_num_threads, initargs=(1,)
            ) as pool:
                _lockstep(stream, trainings, settings.steps, pool)
        except BaseException:
            for training in trainings.values():
                if training.steps_done:
                    training.save()
            raise
        finally:
            torch.set_num_threads(threads)
        for site, training in trainings.items():
            sae = training.finish(_behind(stream, site, settings.steps))
            sae.cfg.metadata.training_key = keys[site]
            save_pair(sae, paths[site], settings.weights_dtype)
            Checkpoints(kept / site, keys[site]).clear()
    remove_if_empty(kept)
    return paths


def _lockstep(
    stream: SeekableStream, trainings: dict[str, Training], steps: int, pool: ThreadPoolExecutor
) -> None:
    """Each SAE takes every step once: one whose checkpoint is ahead waits for the others."""
    begin = min(training.steps_done for training in trainings.values())
    with bar(steps, "train SAEs") as shown:
        shown.update(begin)
        for step in range(begin, steps):
            batch = stream.batch(step)
            due = [training for training in trainings.values() if training.steps_done == step]
            rows = [_finite(batch[training.source.site], training.source.site, step) for training in due]
            list(pool.map(lambda training, x: training.step(x.mul_(training.source.scale)), due, rows))
            shown.update(1)


def _batch(stream: SeekableStream, site: str, step: int) -> Float[Tensor, "batch d_in"]:
    return _finite(stream.batch(step)[site], site, step)


def _finite(rows: Any, site: str, step: int) -> Float[Tensor, "batch d_in"]:
    x = torch.from_numpy(rows)
    if not bool(torch.isfinite(x.sum())) and not bool(torch.isfinite(x).all()):
        raise Failure(
            f"the model gives NaN or infinity at {site} (batch {step})",
            expected="finite activations",
            cure="load the model in float32",
        )
    return x


def _behind(stream: SeekableStream, site: str, steps: int) -> Blocks:
    """Batches after the last one of the training."""

    def blocks() -> Iterator[Float[Tensor, "block d_in"]]:
        for step in range(steps, steps + -(-HELD_OUT_ROWS // stream.batch_size)):
            yield _batch(stream, site, step)

    return blocks
