"""Time of attribution next to passes of the model it explains: ratios, which say little about the machine.

    python -m tests.benchmarks.attribution            # 8 prompts of 64 tokens, 6 layers
    python -m tests.benchmarks.attribution --quick    # fewer repeats
    python -m tests.benchmarks.attribution --d-model 256

Random weights and TopK SAEs at every layer; one thread; processor time of this process, so other work on the
machine counts little; the median of several rounds in which everything is measured once. Rows are compared
with
  spliced   2 forwards + 1 backward of the model with all SAEs and errors spliced in (nodes)
  model     1 forward + 1 backward of the plain model, gradients of its weights included (edges)
Peers in the same units: feature-circuits 5 and its integrated gradients 37 (nodes), 0.75 to 0.9 (one
feature's edges); circuit-tracer 0.6; EAP-IG 1.4 and 5.7, AutoCircuit 1.7 and 7.1 (component edges, one
gradient and integrated).
"""

import argparse
import sys
import time

import torch

import emocircuits
from emocircuits.attribution.methods.gradients import graph_effects
from emocircuits.graphs.features import FeatureGraph
from emocircuits.interventions.splice import splice
from emocircuits.passes.prompt_pairs import PromptPairs
from emocircuits.passes.task import Task
from tests.benchmarks.attribution_scale import difference, random_world

SETTINGS = {"positions": 64, "layers": 6, "d_model": 512, "heads": 8, "d_vocab": 2000, "d_sae": 4096, "k": 32}
PROMPTS, TARGETS, SOURCES = 8, 200, 50


def spliced_passes(model, saes, clean, corrupt) -> None:
    """Two forwards and one backward of the spliced model."""
    with splice(model, saes):
        with torch.no_grad():
            difference(model(clean))
        difference(model(corrupt)).sum().backward()


def plain_passes(model, corrupt) -> None:
    """One forward and one backward of the plain model, as training runs it."""
    model.requires_grad_(True)
    difference(model(corrupt)).sum().backward()
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)


def least(settings: dict) -> float:
    """Multiplications of component edges over those of one forward and backward pass with weight gradients.

    Two forward passes and a backward pass without weight gradients, after the last attention at the last
    position alone; what each head writes; the queries', keys' and values' gradients taken back to the stream;
    the inner products of nodes and slots. Of the last block the heads' outputs, the MLP and the queries'
    gradients count at the last position.
    """
    width, layers, heads = settings["d_model"], settings["layers"], settings["heads"]
    blocks, logits = 12 * width**2 * layers, width * settings["d_vocab"]
    passes = 3 * (blocks - 9 * width**2)
    seeds = 4 * width**2 * layers - 2 * width**2
    nodes = [2 + layer * (heads + 1) for layer in range(layers)]
    products = (3 * sum(nodes) - nodes[-1]) * heads * width
    return (passes + seeds + products) / (3 * (blocks + logits))


def timed(work) -> float:
    """Processor seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> int:
    """Prints the ratios next to their bars; 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument(
        "--d-model",
        type=int,
        default=SETTINGS["d_model"],
        help="width of the model; d_sae is eight times that",
    )
    arguments = parser.parse_args()
    rounds, settings = (
        3 if arguments.quick else 9,
        {**SETTINGS, "d_model": arguments.d_model, "d_sae": 8 * arguments.d_model},
    )
    torch.set_num_threads(1)
    model, saes, *_ = random_world(settings)
    clean, corrupt = torch.randint(0, settings["d_vocab"], (2, PROMPTS, settings["positions"]))
    task = Task(model, PromptPairs.of(clean, corrupt), difference, saes)
    found = emocircuits.attribute(task, edges=False)
    sites = list(saes)
    ups, downs = (
        [node for node in found.nodes if node.startswith(f"feature/{site}/")] for site in sites[2:4]
    )
    some = FeatureGraph(task.at_sites(sites[2:4]), tuple(ups[:SOURCES] + downs[:TARGETS]))
    nodes = {"nodes": "components", "edges": True}
    works = {
        "spliced": lambda: spliced_passes(model, saes, clean, corrupt),
        "model": lambda: plain_passes(model, corrupt),
        "nodes": lambda: emocircuits.attribute(task, edges=False),
        "feature edges": lambda: graph_effects(some, {}),
        "component edges": lambda: emocircuits.attribute(model, clean, corrupt, difference, **nodes),
        "component edges, 5 steps": lambda: emocircuits.attribute(
            model, clean, corrupt, difference, method="integrated_gradients", steps=5, **nodes
        ),
    }
    for work in works.values():
        work()
    times = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(timed(work))

    def ratio(name: str, unit: str, share: int = 1) -> float:
        return float(
            torch.tensor([a / b / share for a, b in zip(times[name], times[unit], strict=True)]).median()
        )

    rows = [
        ("nodes and errors at all 6 sites / spliced", ratio("nodes", "spliced"), 1.3),
        (f"one feature's edges (of {TARGETS}) / model", ratio("feature edges", "model", TARGETS), 0.25),
        ("component edges / model", ratio("component edges", "model"), 1.2),
        ("component edges, 5 steps / model", ratio("component edges, 5 steps", "model"), 5.0),
    ]
    print(
        f"{PROMPTS} prompts of {SETTINGS['positions']} tokens, {SETTINGS['layers']} layers, d "
        f"{settings['d_model']}, d_sae {settings['d_sae']}; median of {rounds}; spliced "
        f"{1e3 * min(times['spliced']):.0f} ms, model {1e3 * min(times['model']):.0f} ms"
    )
    print(f"component edges / model cannot be less than {least(settings):.2f} by their multiplications")
    for text, value, bar in rows:
        print(f"{text:46s} {value:6.3f}   bar {bar}   {'kept' if value <= bar else 'MISSED'}")
    return int(any(value > bar for _, value, bar in rows))


if __name__ == "__main__":
    sys.exit(main())
