"""Prompts, directions and a metric of a tiny random model."""

from dataclasses import replace

import numpy as np

from emocircuits.artifacts.direction import Direction
from emocircuits.experiments.steering import DoseSettings, dose_response
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task


def metric(logits):
    return logits[:, -1, [5, 6]].logsumexp(-1) - logits[:, -1, [7, 8, 9]].logsumexp(-1)


def prompts(model, count=6):
    source = np.random.default_rng(0)
    return tuple(
        tuple(source.integers(3, model.d_vocab, length).tolist())
        for length in source.choice([7, 7, 9], count)
    )


def task(model, name):
    return Task(model, PromptPairs.of(prompts(model), prompts(model)), metric, behaviour=name)


def directions(model, n_random=20):
    source = np.random.default_rng(1)
    unit = [
        vector / np.linalg.norm(vector)
        for vector in source.standard_normal((n_random + 3, model.d_model)).astype(np.float32)
    ]
    kinds = ["emotion", "emotion", "content"] + ["random"] * n_random
    names = ["desperate", "calm", "rain"] + [f"random {number}" for number in range(n_random)]
    site = model.sites[1]
    return tuple(
        Direction(name, kind, site, vector, 2.0)
        for name, kind, vector in zip(names, kinds, unit, strict=True)
    )


def run(model, **changes):
    settings = DoseSettings(strengths=(-0.5, -0.25, 0.0, 0.25, 0.5), control_strengths=(-0.5, 0.5))
    return dose_response(
        model,
        [task(model, "cheating")],
        directions(model),
        replace(settings, **changes),
    )
