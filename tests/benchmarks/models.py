"""What watching, long prompts and a second rank cost: `python -m tests.benchmarks.models [--only
monitor|memory|patterns|ranks] [--clock wall|cpu]`.

monitor   time of writing with the monitor over writing with the same cache and sampling and no hook; turns
          alternate, medians
memory    tensor bytes alive at most during readings and node attribution of one prompt pair of 256 … 4,096
          tokens (tiny model)
patterns  time of node attribution of one prompt pair without attention patterns over with them (4 layers, d
          256, 8 heads)
ranks     wall time of harvesting with 1 and 2 processes under torchrun (needs two free cores), and with 3 for
          the same bytes
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import numpy as np
import torch
from experiments.tiny_world import tiny_directions, tiny_model
from transformers import DynamicCache

from emocircuits.experiments.calibration import Calibration
from emocircuits.experiments.monitor import Monitor
from emocircuits.experiments.readings import long_readings
from emocircuits.models import load_model
from emocircuits.models.tiny import TinyShape, write_tiny_model

LENGTHS = (256, 512, 1024, 2048, 4096)


@torch.no_grad()
def plain(model, prompt: str, n_tokens: int, seed: int) -> list[str]:
    """The monitor's loop without the monitor."""
    cache, source = DynamicCache(), torch.Generator().manual_seed(seed)
    logits = model.bridge(torch.tensor([model.encode(prompt)]), past_key_values=cache, use_cache=True)[0, -1]
    texts = []
    for _ in range(n_tokens):
        token = int(torch.multinomial(logits.float().softmax(-1), 1, generator=source))
        texts.append(model.token_texts([token])[0])
        logits = model.bridge(torch.tensor([[token]]), past_key_values=cache, use_cache=True)[0, -1]
    return texts


def monitor_cost(clock, repeats: int = 101, n_tokens: int = 60) -> None:
    """Ratio of watched to plain writing on the organism, with ten emotions read."""
    model = load_model("organism", checks=False)
    emotions = tuple(f"e{number}" for number in range(10))
    watch = Monitor(
        model, tiny_directions(model, emotions), Calibration(dict.fromkeys(emotions, 1e9), 0.01, 1000)
    )
    model.tokenizer.eos_token = None  # neither stops early
    prompt, ratios = "In a school office an AI named Alex looked after the inbox.", []
    for seed in range(repeats):
        times = {}
        for name in ("plain", "watched") if seed % 2 else ("watched", "plain"):
            begin = clock()
            if name == "plain":
                plain(model, prompt, n_tokens, seed)
            else:
                assert sum(1 for _ in watch.write(prompt, n_tokens, seed=seed)) > n_tokens
            times[name] = clock() - begin
        ratios.append(times["watched"] / times["plain"])
    ratio = statistics.median(ratios[1:])
    print(
        f"{'ok ' if ratio <= 1.05 else 'NO '} monitor over plain writing: {ratio:.3f} (at most 1.05), turns "
        f"{min(ratios[1:]):.3f} to {max(ratios[1:]):.3f}"
    )


def memory_growth() -> None:
    """Peak resident memory of fresh processes, one per length; what a process takes without a prompt is taken
    off.
    """
    for what in ("readings", "attribution"):
        peaks = {length: _peak(what, length) for length in (16, *LENGTHS)}
        above = [peaks[length] - peaks[16] for length in LENGTHS]
        exponent = np.polyfit(np.log(LENGTHS[1:]), np.log(np.maximum(above[1:], 1e-3)), 1)[0]
        shown = ", ".join(f"{length}: {value:.0f}" for length, value in zip(LENGTHS, above, strict=True))
        print(
            f"{'ok ' if exponent <= 1.05 else 'NO '} {what}: MiB above a short prompt {shown}; grows as "
            f"tokens^{exponent:.2f} (at most linear)"
        )


def _peak(what: str, length: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.models", "--child", what, str(length)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "0"},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.splitlines()[-1])


def child(what: str, length: int) -> None:
    """Prints the peak resident MiB of this process after one prompt."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model(folder, shape=TinyShape(n_ctx=4096, n_layers=2))
        ids = torch.randint(3, model.d_vocab, (2, length), generator=torch.Generator().manual_seed(0))
        if what == "readings":
            long_readings(model, tiny_directions(model), ids[0].tolist(), ["sad"], chunk=256)
        else:
            from planted.paper_model import random_saes

            from emocircuits.attribution.attribute import attribute

            saes = random_saes("topk", 2, model.d_model)
            for sae in saes.values():
                sae.float()
                sae.dtype = torch.float32
            attribute(
                model.bridge,
                ids[:1],
                ids[1:],
                lambda logits: logits[:, -1, 5] - logits[:, -1, 7],
                saes=saes,
                edges=False,
            )
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def pattern_cost(clock, repeats: int = 3) -> None:
    """Time per prompt pair with and without patterns; turns alternate, medians."""
    from planted.paper_model import random_saes

    from emocircuits.attribution.attribute import attribute
    from emocircuits.passes import attention as fused_attention

    with tempfile.TemporaryDirectory() as folder:
        model = load_model(
            str(write_tiny_model("llama", folder, TinyShape(n_layers=4, d_model=256, n_heads=8, n_ctx=4096))),
            checks=False,
        ).bridge
    saes = random_saes("topk", 4, 256, dtype=torch.float32)
    for length in (128, *LENGTHS):
        ids, seconds = (
            torch.randint(3, model.cfg.d_vocab, (2, length), generator=torch.Generator().manual_seed(0)),
            {},
        )
        for turn in range(2 * repeats):
            fused_attention.SMALL_BYTES = (0, 1 << 50)[turn % 2]
            begin = clock()
            attribute(
                model,
                ids[:1],
                ids[1:],
                lambda logits: logits[:, -1, 5] - logits[:, -1, 7],
                saes=saes,
                edges=False,
            )
            seconds.setdefault(turn % 2, []).append(clock() - begin)
        without, patterns = (statistics.median(seconds[part]) for part in (0, 1))
        print(
            f"{'ok ' if without <= 1.1 * patterns or length < 512 else 'NO '} {length} tokens: "
            f"{patterns:.3f} s with patterns, {without:.3f} s without, ratio {without / patterns:.2f} (at "
            "most 1.1 from 512 tokens on)",
            flush=True,
        )


def rank_cost(n_texts: int = 2000) -> None:
    """Wall time of harvesting with one and two ranks; the time inside the ranks, without imports."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for ranks in (1, 2):
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    "--standalone",
                    "--nproc-per-node",
                    str(ranks),
                    str(ROOT / "tests/ranks/harvest_driver.py"),
                    str(Path(folder) / str(ranks)),
                    str(n_texts),
                ],
                capture_output=True,
                text=True,
                cwd=ROOT,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
                },
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            seconds[ranks] = float(
                next(line for line in done.stdout.splitlines() if line.startswith("seconds")).split()[1]
            )
    ratio = seconds[2] / seconds[1]
    print(
        f"{'ok ' if ratio <= 0.65 else 'NO '} harvest with 2 ranks over 1: {ratio:.2f} (at most 0.65), "
        f"{seconds[1]:.1f} s and {seconds[2]:.1f} s"
    )


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description="monitor, long prompts, ranks")
    parser.add_argument("--only", choices=("monitor", "memory", "patterns", "ranks"))
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu on a machine that is busy otherwise"
    )
    parser.add_argument("--child", nargs=2, metavar=("WHAT", "LENGTH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], int(arguments.child[1]))
        return
    torch.set_num_threads(1)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    parts = {
        "monitor": lambda: monitor_cost(clock),
        "memory": memory_growth,
        "patterns": lambda: pattern_cost(clock),
        "ranks": rank_cost,
    }
    for name, part in parts.items():
        if arguments.only in (None, name):
            part()


if __name__ == "__main__":
    main()
