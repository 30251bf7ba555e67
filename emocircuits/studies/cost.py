"""Time and memory of a run on paper, from a model's sizes and rates that are measured here or stated for
another machine.

    harvest      2 P T flop                                              P parameters, T tokens
    SAE          (2 d S + 8 k d) R flop per site                         R rows; only the encoder is dense
    attribution  2 P t (2 + 2 n) flop per pair, and edges a fifth of it  t tokens of one side, n midpoints
    (one gradient: n = 1)
    steering     2 P t (directions x strengths x prompts), halved: only the blocks after the site run again

Flop turn into seconds by the rate of a large matrix product times the share of it that a model really
reaches.
"""

import time
from dataclasses import dataclass
from typing import Any

from emocircuits.models.memory import GIB, Shape

PRESETS = {
    "organism": Shape(2_800_000, 6, 160, 5, 640, 2_000),
    "2b": Shape(2_600_000_000, 26, 2304, 8, 9216, 256_000, 2),
    "7b": Shape(7_200_000_000, 32, 4096, 32, 14_336, 32_000, 2),
    "27b": Shape(27_200_000_000, 46, 4608, 32, 36_864, 256_000, 2),
}


@dataclass(frozen=True)
class Speeds:
    """What a machine does.

    Attributes:
        flops: of a large matrix product, per second.
        model_share: share of it that a forward pass reaches.
        disk: bytes per second written.
        what: where the numbers come from.
    """

    flops: float
    model_share: float
    disk: float
    what: str


@dataclass(frozen=True)
class Job:
    """What is to be done."""

    tokens: float = 5e6  # harvested
    rows: float = 5e7  # each SAE sees
    sites: int = 1
    expansion: int = 8
    k: int = 64
    pairs: int = 48
    pair_tokens: int = 300
    steps: int = 8
    directions: int = 50
    strengths: int = 7
    prompts: int = 48
    ranks: int = 1


def estimate(shape: Shape, job: Job, rates: Speeds) -> list[dict[str, Any]]:
    """Rows `stage, flop, seconds, memory_gb, disk_gb` and their sum; work is dealt out evenly over
    the ranks.
    """
    d, d_sae, speed = shape.d_model, job.expansion * shape.d_model, rates.flops * rates.model_share
    forward = 2.0 * shape.n_params
    store = job.tokens * d * job.sites * 2
    sae_gb = 2 * d * d_sae * 4 * 4 / GIB  # weights, gradients and Adam's two moments, float32
    pass_gb = shape.attribution_bytes(job.pair_tokens, d_sae, job.sites) / GIB
    table = [
        (
            "collect",
            forward * job.tokens,
            speed,
            shape.fixed_gb + shape.forward_bytes(2048) / GIB,
            store / GIB,
            store / rates.disk,
        ),
        (
            "sae",
            job.sites * job.rows * (2.0 * d * d_sae + 8.0 * job.k * d),
            rates.flops,
            sae_gb,
            job.sites * 2 * d * d_sae * 4 / GIB,
            0.0,
        ),
        (
            "attribute",
            forward * job.pairs * job.pair_tokens * (2 + 2 * job.steps) * 1.2,
            speed,
            shape.fixed_gb + sae_gb / 4 * job.sites + pass_gb,
            0.0,
            0.0,
        ),
        (
            "steer",
            forward * job.prompts * job.pair_tokens * job.directions * job.strengths / 2,
            speed,
            shape.fixed_gb + shape.forward_bytes(4096) / GIB,
            0.0,
            0.0,
        ),
    ]
    rows = [
        {
            "stage": name,
            "flop": flop,
            "seconds": max(flop / rate, disk_seconds) / job.ranks,
            "memory_gb": memory,
            "disk_gb": disk,
        }
        for name, flop, rate, memory, disk, disk_seconds in table
    ]
    return [
        *rows,
        {
            "stage": "all",
            "flop": sum(row["flop"] for row in rows),
            "seconds": sum(row["seconds"] for row in rows),
            "memory_gb": max(row["memory_gb"] for row in rows),
            "disk_gb": sum(row["disk_gb"] for row in rows),
        },
    ]


def measure(device: str = "cpu", seconds: float | int = 1.0) -> Speeds:
    """Rates of this machine: a matrix product of 1,024 rows, the organism's forward pass beside it, and the
    disk.
    """
    import tempfile

    import torch

    from emocircuits.models import load_model

    left, right = torch.randn(1024, 1024, device=device), torch.randn(1024, 1024, device=device)
    flops = 2 * 1024**3 / _each(lambda: left @ right, seconds, device)
    model = load_model("organism", device=device, checks=False)
    tokens = torch.randint(3, model.d_vocab, (8, 256), device=device)
    with torch.no_grad():
        each = _each(lambda: model.bridge(tokens, use_cache=False), seconds, device)
    share = min(1.0, 2 * model.n_params * tokens.numel() / each / flops)
    data = b"\0" * (1 << 26)
    with tempfile.NamedTemporaryFile() as file:
        begin = time.perf_counter()
        file.write(data)
        file.flush()
        disk = len(data) / (time.perf_counter() - begin)
    return Speeds(flops, share, disk, f"measured here on {device}")


def _each(work: Any, seconds: float | int, device: str) -> float:
    """Seconds of one call: the fastest of as many as fit."""
    import torch

    best, end = float("inf"), time.perf_counter() + float(seconds)
    while True:
        begin = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
        if time.perf_counter() > end:
            return best
