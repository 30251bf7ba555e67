"""How long each stage of a recipe will take on this machine with this model, and how much memory and disk.

The model is measured: seconds per token of a pass, of a pass with its gradient, and seconds per row of a step
of SAE training. What the stages do is counted from the recipe and its material, in tokens that run through
all blocks (a pass that resumes after half of them counts half). What is not worth counting, such as drawing
figures, stands as seconds of a processor of 2026.

    python -m tests.benchmarks.real_models --only forecast --run RUN

prints forecast and truth of a finished run, stage by stage.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from emocircuits.activations.texts import TEXT_SOURCES, load_texts
from emocircuits.behaviours import BEHAVIOURS
from emocircuits.behaviours.bind import bind
from emocircuits.experiments.sae_quality import LOGITS
from emocircuits.models.language_model import LanguageModel
from emocircuits.models.memory import GIB, Shape, shape_of
from emocircuits.names import chosen_layers, depth_of, residual_site
from emocircuits.passes.resume import resume
from emocircuits.runs.recipe import Recipe
from emocircuits.sae.training.trainer import SiteRows, Training

SAMPLE = 48  # texts whose tokens are counted
PROBE = 192  # tokens of a probe
CURVE = 26  # sizes and circuits of a faithfulness curve and its controls, per random circuit
TRACE_PASSES = 4.0  # of a step of a trace: forward and backward at two sides
GENERATED = 48  # tokens of a coherence text
WRITING = 220  # tokens of a story that a model writes
# Seconds of a processor of 2026: directions and matches per emotion and site, figures and report
DIRECTION_SECONDS, MATCH_SECONDS, FIGURE_SECONDS, REPORT_SECONDS = 0.005, 0.1, 10.0, 2.0
# Of the passes counted, what finished runs on SmolLM2 and on the organism took: parts that share passes cost
# less, parts that are not counted more
CIRCUIT, EVALUATE, STEER = 0.75, 1.7, 0.4
VOCABULARY = 20_000  # tokens whose logits at all positions, with their losses, cost as much as the blocks


@dataclass(frozen=True)
class Pace:
    """What this machine does with this model.

    Attributes:
        forward: seconds per token of a pass without gradients.
        gradient: seconds per token of a pass and its backward.
        token: seconds per token that is written one at a time, 16 texts together.
        sae_row: seconds per row of a step of SAE training.
    """

    forward: float
    gradient: float
    token: float
    sae_row: float


def measure_pace(model: LanguageModel, recipe: Recipe, *, prompts: int = 4) -> Pace:
    """Runs the model and a few steps of training, some seconds in all."""
    tokens = (
        torch.arange(prompts * PROBE, device=model.bridge.cfg.device).view(prompts, PROBE) % model.d_vocab
    )
    site, n = residual_site(0), tokens.numel()
    stream = torch.zeros(
        prompts,
        PROBE,
        model.d_model,
        device=tokens.device,
        dtype=next(model.bridge.original_model.parameters()).dtype,
    )

    def forward() -> None:
        with torch.no_grad():
            model.bridge(tokens, use_cache=False, logits_to_keep=1)

    def gradient() -> None:
        leaf = stream.clone().requires_grad_()
        resume(model.bridge, tokens, site, leaf, last=True).sum().backward()
        model.bridge.original_model.zero_grad(set_to_none=True)

    def token() -> None:
        with torch.no_grad():
            model.bridge(tokens[:, :1].repeat(4, 1), use_cache=False, logits_to_keep=1)

    settings = replace(recipe.sae, training_rows=recipe.sae.batch_size * 4)
    training = Training(
        SiteRows(site, np.zeros(model.d_model, dtype=np.float32), 1.0, {}), settings, device=recipe.device
    )
    rows = torch.randn(settings.batch_size, model.d_model, generator=torch.Generator().manual_seed(0))

    return Pace(
        _seconds(forward) / n,
        _seconds(gradient) / n,
        _seconds(token) / (4 * prompts),
        _seconds(lambda: training.step(rows.clone().to(recipe.device))) / settings.batch_size,
    )


@dataclass(frozen=True)
class Material:
    """What a recipe reads: counted, not run.

    Attributes:
        tokens: of all texts.
        written: of them, tokens that the model has to write first.
        stories: story tokens, of which matches are made.
        emotions: how many.
        pair_tokens: behaviour -> tokens of one side of a pair, mean.
    """

    tokens: int
    written: int
    stories: int
    emotions: int
    pair_tokens: dict[str, float]


def count_material(model: LanguageModel, recipe: Recipe) -> Material:
    """Counts texts and prompts; of texts that the model would write, the planned number.

    Raises:
        UserError: a material or a behaviour that does not fit.
    """
    asked = recipe.collect
    pairs = {}
    for name in recipe.behaviours:
        found = bind(BEHAVIOURS.get(name), model).pairs("find", 8)
        pairs[name] = float(np.mean([len(model.encode(pair.clean)) for pair in found]))
    writes = asked.material in ("self_written", "asked")
    known = asked.emotions
    if writes and not known:
        source = TEXT_SOURCES.get(asked.material)
        known = tuple(source.emotions()) if source.emotions else ()
    if writes:
        count = len(known) * asked.stories_per_emotion + asked.neutral_texts
        settings = replace(asked, material="written", emotions=(), stories_per_emotion=1)
        texts = [text for text in load_texts("written", settings, seed=recipe.seed) if text.kind == "corpus"]
        story, written = count * WRITING, count * WRITING
    else:
        texts = load_texts(asked.material, asked, seed=recipe.seed)
        known = known or tuple({text.emotion for text in texts if text.emotion})
        stories = [text.text for text in texts if text.kind == "story"]
        story, written = _tokens(model, stories), 0
    rest = _tokens(model, [text.text for text in texts if writes or text.kind != "story"])
    return Material(story + rest, written, story, len(known), pairs)


def forecast(
    recipe: Recipe, shape: Shape, n_layers: int, pace: Pace, material: Material
) -> list[dict[str, Any]]:
    """Rows `stage, seconds, memory_gb, disk_gb`, and their sum.

    Args:
        recipe: what is to be run.
        shape: the model's sizes.
        n_layers: its blocks.
        pace: what the machine does.
        material: what is read.
    """
    layers = chosen_layers(recipe.layers, n_layers) if recipe.layers else tuple(range(n_layers))
    sites = [residual_site(layer) for layer in layers]
    depths = [depth_of(site, n_layers) for site in sites]
    inside = [depth for depth in depths if depth > recipe.circuit.from_depth + 1e-9] or depths[-1:]
    after, circuit_after = sum(1 - d for d in depths), sum(1 - d for d in inside)
    mean_after = circuit_after / len(inside)
    d, d_sae = shape.d_model, recipe.sae.expansion * shape.d_model
    store = material.tokens * d * len(sites) * (4 if recipe.collect.dtype == "float32" else 2)
    threads = max(1, recipe.threads)
    side = dict(material.pair_tokens)
    find = sum(side.values()) * recipe.attribute.pairs
    held = sum(side.values()) * recipe.evaluate.pairs
    backward = pace.gradient / pace.forward  # a gradient in passes
    words = 1 + shape.d_vocab / VOCABULARY  # logits at all positions, and their losses

    steps = {"attribution_patching": 0, "checked": recipe.attribute.steps / 2}.get(
        recipe.attribute.method, recipe.attribute.steps
    )
    attribute = find * (1 + backward + steps * after * backward)
    if recipe.attribute.method == "checked":
        attribute += sum(side.values()) * 4 * 16 * after / len(sites)
    circuit = find * (
        recipe.circuit.rounds * (1 + 2 * backward) * mean_after
        + (recipe.circuit.max_nodes + 2 * recipe.circuit.max_edges) * mean_after
    )
    trace = recipe.trace
    circuit += (
        sum(side.values())
        * trace.prompts
        * TRACE_PASSES
        * mean_after
        * (2 * trace.steps + (trace.random_controls + trace.content_controls) * trace.control_steps)
    )
    evaluate = (
        find * 2 * recipe.evaluate.exact_nodes * mean_after
        + held * CURVE * (1 + recipe.evaluate.random_circuits) * mean_after
        + 3 * held
    )
    return _table(
        {
            "plan": (3.0 + 64 * PROBE * pace.forward / 8, shape.fixed_gb, 0.0),
            "collect": (
                material.tokens * pace.forward * max(depths) + material.written * pace.token,
                shape.fixed_gb + shape.forward_bytes(2048) / GIB,
                store / GIB,
            ),
            "directions": (
                DIRECTION_SECONDS * material.emotions * len(sites) * max(1.0, d / 576)
                + recipe.checks.lens_prompts * material.emotions * PROBE * pace.forward * after / 2,
                shape.fixed_gb + material.stories * d * 8 / GIB,
                0.05,
            ),
            "sae": (
                recipe.sae.training_rows * len(sites) * pace.sae_row / min(recipe.sae.workers, threads)
                + recipe.sae.loss_tokens * (1 + after + 0.2 * len(sites)) * words * pace.forward,
                shape.fixed_gb + (len(sites) * 2 * d * d_sae * 16 + threads * 20 * LOGITS) / GIB,
                len(sites) * 2 * d * d_sae * 4 / GIB,
            ),
            "match": (
                MATCH_SECONDS * material.emotions * len(sites) * (d_sae / 2304) / threads,
                shape.fixed_gb + material.stories * d_sae * 4 / GIB,
                0.05,
            ),
            "attribute": (attribute * pace.forward, _pass_gb(recipe, shape, side, len(sites)), 0.05),
            "circuit": (CIRCUIT * circuit * pace.forward, _pass_gb(recipe, shape, side, len(sites)), 0.05),
            "evaluate": (EVALUATE * evaluate * pace.forward, _pass_gb(recipe, shape, side, len(sites)), 0.01),
            "steer": (
                STEER * _steer(recipe, side, depths) * pace.forward
                + 5 * recipe.steer.coherence_texts * len(recipe.steer.strengths) * GENERATED * pace.token,
                shape.fixed_gb + shape.forward_bytes(4096) / GIB,
                0.01,
            ),
            "export": (2.0, shape.fixed_gb, 0.02),
            "figures": (FIGURE_SECONDS / threads, 1.5, 0.02),
            "report": (REPORT_SECONDS, 1.5, 0.01),
        }
    )


def _steer(recipe: Recipe, side: dict[str, float], depths: Sequence[float]) -> float:
    """Tokens of the curves, the mediation and the causal check, resumed after the middle site."""
    how, controls = recipe.steer, recipe.directions
    strengths = [value for value in how.strengths if value]
    strong = [value for value in strengths if abs(value) >= max(map(abs, strengths)) / 2]
    beside = (
        controls.random_controls
        + controls.covariance_controls
        + controls.content_controls
        + controls.shuffled_controls
    )
    cells = len(how.emotions) * len(strengths) + beside * len(strong)
    rest = 1 - float(np.median(depths))
    curves = how.prompts * (1 + cells * rest)
    mediation = how.prompts * (4 + how.random_sets) * rest
    checked = len(depths) * 12 * (1 + how.random_sets)  # matches of the emotion, and as many random sets
    causal = how.check_prompts * checked * 3 * (1 - sum(depths) / len(depths))
    return sum(side.values()) * (curves + mediation + causal)


def _pass_gb(recipe: Recipe, shape: Shape, side: dict[str, float], sites: int) -> float:
    """Memory of attribution with as many pairs at once as there are, or fit into `max_tokens`."""
    d_sae = recipe.sae.expansion * shape.d_model
    most = 0.0
    for tokens in side.values():
        at_once = min(recipe.attribute.pairs, max(1, recipe.attribute.max_tokens // int(tokens)))
        most = max(most, at_once * shape.attribution_bytes(int(tokens), d_sae, sites) / GIB)
    return shape.fixed_gb + most


def _table(stages: dict[str, tuple[float, float, float]]) -> list[dict[str, Any]]:
    rows = [
        {"stage": name, "seconds": seconds, "memory_gb": memory, "disk_gb": disk}
        for name, (seconds, memory, disk) in stages.items()
    ]
    return [
        *rows,
        {
            "stage": "all",
            "seconds": sum(row["seconds"] for row in rows),
            "memory_gb": max(row["memory_gb"] for row in rows),
            "disk_gb": sum(row["disk_gb"] for row in rows),
        },
    ]


def forecast_for(model: LanguageModel, recipe: Recipe) -> list[dict[str, Any]]:
    """Measures, counts and forecasts."""
    return forecast(
        recipe, shape_of(model), model.n_layers, measure_pace(model, recipe), count_material(model, recipe)
    )


def _tokens(model: LanguageModel, texts: Sequence[str]) -> int:
    """Tokens of texts, from a sample of them."""
    if not texts:
        return 0
    sample = texts[:: max(1, len(texts) // SAMPLE)]
    return round(np.mean([len(model.encode(text)) for text in sample]) * len(texts))


def _seconds(work: Callable[[], Any], rounds: int = 3) -> float:
    """Seconds of one call, the fastest of a few after a first one."""
    work()
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)
