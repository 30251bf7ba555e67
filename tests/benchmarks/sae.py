"""How fast SAEs train here, in units of the six dense products a step would need: `python -m
tests.benchmarks.sae`.

A dense step multiplies batch × d_in × d_sae six times (encode, decode, and four for the gradients).
Everything is timed in one process on the same rows, float32, one thread, in rounds that go through all
contenders; a number is the median over rounds of a step's time divided by that of the six products in the
same round. Peers that are not installed are skipped.

    taskset -c 1 python -m tests.benchmarks.sae --json sae.json       # everything on one core
    python -m tests.benchmarks.sae --only several                     # several SAEs at once wants two
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from sae_lens import (
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    SAETrainer,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
)

from emocircuits.artifacts.store.activation_store import ActivationStore, ActivationStoreWriter
from emocircuits.progress import quiet
from emocircuits.sae import SAESettings, reconstruction, train_saes
from emocircuits.sae.rows import training_rows
from emocircuits.sae.training.sparse_training import SparseBatchTopKTrainingSAE, SparseTopKTrainingSAE
from emocircuits.sae.training.train import train_one
from emocircuits.sae.training.trainer import make_trainer

D_IN, K = 256, 32
OURS = {"topk": SparseTopKTrainingSAE, "batchtopk": SparseBatchTopKTrainingSAE}
THEIRS = {"topk": TopKTrainingSAE, "batchtopk": BatchTopKTrainingSAE}
CONFIGS = {"topk": TopKTrainingSAEConfig, "batchtopk": BatchTopKTrainingSAEConfig}
Step = Callable[[torch.Tensor], object]


@dataclass(frozen=True)
class Case:
    """One size; `bars` are what our own contenders must stay below."""

    name: str
    kind: str
    d_in: int
    d_sae: int
    batch: int
    bars: dict[str, float]


CASES = (
    Case("TopK 4096", "topk", D_IN, 4096, 2048, {"ours": 0.75, "ours, bfloat16 search": 0.55}),
    Case("TopK 16384", "topk", D_IN, 16384, 1024, {"ours": 0.50}),
    Case("BatchTopK 4096", "batchtopk", D_IN, 4096, 2048, {"ours": 1.10}),
    Case("BatchTopK 16384", "batchtopk", D_IN, 16384, 1024, {"ours": 0.95}),
    Case("TopK organism", "topk", 128, 1024, 1024, {}),
    Case("TopK tiny", "topk", 64, 512, 256, {}),
)


def six_products(case: Case) -> Step:
    """x W, f W', fᵀ g, g W'ᵀ, xᵀ df, df Wᵀ."""
    dense, encoder, decoder = (
        torch.randn(case.batch, case.d_sae),
        torch.randn(case.d_in, case.d_sae),
        torch.randn(case.d_sae, case.d_in),
    )
    big, w, small = (
        torch.empty(case.batch, case.d_sae),
        torch.empty(case.d_in, case.d_sae),
        torch.empty(case.batch, case.d_in),
    )
    rows = torch.empty(case.d_sae, case.d_in)

    def step(x: torch.Tensor) -> None:
        torch.mm(x, encoder, out=big)
        torch.mm(dense, decoder, out=small)
        torch.mm(dense.t(), x, out=rows)
        torch.mm(x, decoder.t(), out=big)
        torch.mm(x.t(), dense, out=w)
        torch.mm(dense, encoder.t(), out=small)

    return step


def settings(case: Case, steps: int = 100_000) -> SAESettings:
    """A run so long that no feature counts as dead within the measurement."""
    return SAESettings(
        expansion=case.d_sae // case.d_in,
        k=K,
        training_rows=steps * case.batch,
        batch_size=case.batch,
        lr=1e-3,
    )


def trained_with(case: Case, sae: torch.nn.Module, *, ours: bool) -> Step:
    """A whole step of `SAETrainer`; `ours` adds what `emocircuits.sae.training.train.make_trainer` sets."""
    trainer: SAETrainer = make_trainer(sae, settings(case))
    if not ours:
        for group in trainer.optimizer.param_groups:
            group["fused"] = None

    def step(x: torch.Tensor) -> None:
        trainer.maybe_reset_sparsity()
        trainer.step(x)
        trainer.n_training_steps += 1

    return step


def contenders(case: Case) -> tuple[dict[str, Step], dict[str, str]]:
    """name -> step, and name -> why it is skipped."""
    config = CONFIGS[case.kind](d_in=case.d_in, d_sae=case.d_sae, k=K)
    steps = {"ours": trained_with(case, OURS[case.kind](config), ours=True)}
    for name, options in (
        ("ours, bfloat16 search", {"encoder_dtype": "bfloat16"}),
        ("ours, sparse", {"kernel": "sparse"}),
    ):
        if name in case.bars or (name == "ours, sparse" and not case.bars):
            steps[name] = trained_with(case, OURS[case.kind](config, **options), ours=True)
    steps["sae-lens"] = trained_with(case, THEIRS[case.kind](config), ours=False)
    skipped = {}
    for name, module, make in (
        ("dictionary_learning", "dictionary_learning", dictionary_learning),
        ("sparsify", "sparsify", sparsify),
    ):
        if importlib.util.find_spec(module) is None:
            skipped[name] = "not installed"
            continue
        try:
            step = make(case)
        except ImportError as error:
            skipped[name] = f"installed but {error}"
            continue
        if step is None:
            skipped[name] = f"has no {case.kind}"
        else:
            steps[name] = step
    return steps, skipped


def dictionary_learning(case: Case) -> Step | None:
    """dictionary_learning's trainer of the same kind."""
    from dictionary_learning.trainers import BatchTopKTrainer, TopKTrainer

    trainer = {"topk": TopKTrainer, "batchtopk": BatchTopKTrainer}[case.kind](
        steps=100_000,
        activation_dim=case.d_in,
        dict_size=case.d_sae,
        k=K,
        layer=0,
        lm_name="none",
        lr=1e-3,
        device="cpu",
    )
    numbers = iter(range(1, 1_000_000))
    return lambda x: trainer.update(next(numbers), x)


def sparsify(case: Case) -> Step | None:
    """sparsify's sparse coder with Adam, as its trainer steps it."""
    from sparsify import SparseCoder, SparseCoderConfig

    if case.kind != "topk":
        return None
    coder = SparseCoder(case.d_in, SparseCoderConfig(num_latents=case.d_sae, k=K))
    optimiser = torch.optim.Adam(coder.parameters(), lr=1e-3)

    def step(x: torch.Tensor) -> None:
        coder(x).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        coder.set_decoder_norm_to_unit_norm()

    return step


def rows_like_activations(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Sparse sums of many directions of unequal frequency plus noise: features fire as unevenly as
    real ones.
    """
    rng = np.random.default_rng(seed)
    true = 4 * d
    directions = rng.normal(size=(true, d)).astype(np.float32) / np.sqrt(d)
    rate = 24 / np.arange(1, true + 1) ** 0.8
    rate = np.minimum(0.5, rate * 24 / rate.sum())
    acts = (rng.random((n, true)) < rate) * rng.exponential(1.0, (n, true))
    return (acts.astype(np.float32) @ directions * np.sqrt(d) / 5 + 0.2 * rng.normal(size=(n, d)) + 1).astype(
        np.float32
    )


def seconds(step: Step, x: torch.Tensor) -> float:
    """One step, timed."""
    begin = time.perf_counter()
    step(x)
    return time.perf_counter() - begin


def ratios(case: Case, rounds: int) -> dict[str, object]:
    """Medians over rounds of the ratio to the six products."""
    batches = [torch.from_numpy(rows_like_activations(case.batch, case.d_in, seed)) for seed in range(4)]
    limit = six_products(case)
    steps, skipped = contenders(case)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 3):
        x = batches[number % len(batches)]
        base = statistics.median(seconds(limit, x) for _ in range(3))
        for name, step in steps.items():
            took = statistics.median(seconds(step, x) for _ in range(3))
            if number >= 3:  # the first rounds warm caches and allocators up
                times[name].append(took / base)
    found = {
        name: {
            "ratio": statistics.median(values),
            "low": min(values),
            "high": max(values),
            "bar": case.bars.get(name),
        }
        for name, values in times.items()
    }
    return {"case": case.name, "six_products_ms": 1e3 * base, "ratios": found, "skipped": skipped}


def overhead(case: Case, rounds: int = 7, steps: int = 10) -> dict[str, object]:
    """Share of a training loop that is neither forward, backward nor optimiser (batches, statistics,
    clipping, schedules).

    Of it, `clipping` is what `clip_grad_norm_` takes, which reads and scales every gradient, and `batches`
    what the store's shuffled stream takes.
    """
    spent = dict.fromkeys(("forward", "backward", "optimiser", "clipping", "batches"), 0.0)

    def timed(name: str, call: Callable) -> Callable:
        def wrapper(*arguments, **options):
            begin = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                spent[name] += time.perf_counter() - begin

        return wrapper

    shares: dict[str, list[float]] = {name: [] for name in ("overhead", *spent)}
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "a.h5", case.d_in, ("site",), 40)
        sae = OURS[case.kind](CONFIGS[case.kind](d_in=case.d_in, d_sae=case.d_sae, k=K))
        trainer = make_trainer(sae, settings(case))
        batches = (torch.from_numpy(x) for x in store.shuffled_batches("site", case.batch, 0))
        supply = timed("batches", lambda: next(batches))
        backward, clip = torch.Tensor.backward, torch.nn.utils.clip_grad_norm_
        sae.training_forward_pass = timed("forward", sae.training_forward_pass)
        trainer.optimizer.step = timed("optimiser", trainer.optimizer.step)
        torch.Tensor.backward, torch.nn.utils.clip_grad_norm_ = (
            timed("backward", backward),
            timed("clipping", clip),
        )
        try:
            for _ in range(rounds + 1):
                spent.update(dict.fromkeys(spent, 0.0))
                begin = time.perf_counter()
                for _ in range(steps):
                    trainer.maybe_reset_sparsity()
                    trainer.step(supply())
                    trainer.n_training_steps += 1
                total = time.perf_counter() - begin
                for name, value in spent.items():
                    shares[name].append(value / total)
                shares["overhead"].append(
                    1 - sum(shares[name][-1] for name in ("forward", "backward", "optimiser"))
                )
        finally:
            torch.Tensor.backward, torch.nn.utils.clip_grad_norm_ = backward, clip
    # the first round warms up
    parts = {name: round(statistics.median(values[1:]), 4) for name, values in shares.items()}
    return {"case": f"overhead, {case.name}", "share": parts.pop("overhead"), "bar": 0.05, "parts": parts}


def make_store(
    path: Path, d: int, sites: tuple[str, ...], n_prompts: int, length: int = 1024
) -> ActivationStore:
    """A store of such rows."""
    prompts = pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(n_prompts)],
            "split": ["held_out" if i % 8 == 0 else "train" for i in range(n_prompts)],
        }
    )
    rows = rows_like_activations(n_prompts * length, d)
    with ActivationStoreWriter(
        path, sites, d, prompts, [np.arange(length)] * n_prompts, {}, "float32"
    ) as writer:
        writer.append(np.arange(n_prompts), dict.fromkeys(sites, rows))
        writer.finish()
    return ActivationStore.open(path)


def several(rounds: int = 3, steps: int = 120, n_sites: int = 4) -> dict[str, object]:
    """SAEs of the organism's size at several layers: all at once (one thread each) against one
    after another.
    """
    sites, found = tuple(f"site{number}" for number in range(n_sites)), []
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "a.h5", 128, sites, 40)
        how = SAESettings(k=K, training_rows=steps * 1024)
        for number in range(rounds):
            took = []
            for workers in (1, 2):
                begin = time.perf_counter()
                train_saes(
                    store, Path(folder) / f"{number}-{workers}", replace(how, workers=workers), layers=sites
                )
                took.append(time.perf_counter() - begin)
            found.append(took[1] / took[0])
    return {
        "case": f"{n_sites} SAEs at once",
        "ratio": statistics.median(found),
        "low": min(found),
        "high": max(found),
        "bar": 0.9,
        "cores": len(os.sched_getaffinity(0)),
    }


def bfloat16_quality(steps: int = 250) -> dict[str, object]:
    """Held-out FVU with the bfloat16 search minus that with float32, same rows and seed."""
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "a.h5", D_IN, ("site",), 64)
        rows = training_rows(store)
        held = store.select((store.prompts["split"] == "held_out").to_numpy(), start=1)
        fvu = {}
        for dtype in ("float32", "bfloat16"):
            how = SAESettings(
                expansion=8,
                k=K,
                training_rows=steps * 2048,
                batch_size=2048,
                kernel="sparse",
                encoder_dtype=dtype,
            )
            fvu[dtype] = reconstruction(train_one(store, "site", how, rows), store, "site", held).fvu
    return {
        "case": "FVU with bfloat16 search",
        "difference": fvu["bfloat16"] - fvu["float32"],
        "bar": 0.002,
        "fvu": fvu,
    }


def show(result: dict[str, object]) -> None:
    """Prints one result."""
    if "ratios" in result:
        print(f"{result['case']}: six products {result['six_products_ms']:.1f} ms")
        for name, one in result["ratios"].items():
            bar = (
                ""
                if one["bar"] is None
                else f"   bar {one['bar']:.2f} {'ok' if one['ratio'] <= one['bar'] else 'MISSED'}"
            )
            print(f"    {name:<24} {one['ratio']:5.2f}   ({one['low']:.2f} .. {one['high']:.2f}){bar}")
        for name, reason in result["skipped"].items():
            print(f"    {name:<24} skipped: {reason}")
    else:
        value = next(result[key] for key in ("share", "ratio", "difference") if key in result)
        rest = {
            key: item
            for key, item in result.items()
            if key not in ("case", "share", "ratio", "difference", "bar")
        }
        print(
            f"{result['case']}: {value:.4f}   bar {result['bar']} "
            f"{'ok' if value <= result['bar'] else 'MISSED'}   {json.dumps(rest)}"
        )
    sys.stdout.flush()


def main() -> None:
    """Prints a table and, where asked, JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="only parts whose name holds this text")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    parts: dict[str, Callable[[], dict[str, object]]] = {
        case.name: lambda case=case: ratios(case, arguments.rounds) for case in CASES
    }
    parts |= {f"overhead, {case.name}": lambda case=case: overhead(case) for case in CASES[:2]}
    parts |= {"several at once": several, "bfloat16 quality": bfloat16_quality}
    results = []
    with quiet():
        for name, part in parts.items():
            if arguments.only in name:
                results.append(part())
                show(results[-1])
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"threads": 1, "torch": torch.__version__, "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
