"""Every public name as a user writes it. The type checker reads this file (`make lint`); nothing runs it."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pandas as pd
import torch
from sae_lens import SAE

import emocircuits
from emocircuits import (
    ActivationStore,
    CircuitEvidence,
    CircuitGraph,
    EmotionDirections,
    FeatureMatches,
    LabelledText,
    PromptPairs,
    Push,
    Run,
    Task,
)
from emocircuits.artifacts.answers import Faithfulness
from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.behaviours.behaviour import Behaviour
from emocircuits.circuits.quality import CircuitQuality
from emocircuits.interventions.edits import Edit
from emocircuits.models.language_model import LanguageModel


def difference(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1, 0] - logits[:, -1, 1]


def texts_and_saes(model: LanguageModel, directions: EmotionDirections, folder: Path) -> None:
    texts = emocircuits.load_texts("organism")
    assert_type(texts, list[LabelledText])
    few = emocircuits.CollectSettings(stories_per_emotion=4)
    assert_type(emocircuits.load_texts("planted", few, seed=1), list[LabelledText])
    store = emocircuits.collect(model, texts, folder / "acts.h5", layers=[0, 1])
    assert_type(store, ActivationStore)
    assert_type(emocircuits.learn_directions(store), EmotionDirections)
    saes = emocircuits.train_saes(store, folder / "saes")
    assert_type(saes, dict[str, SAE[Any]])
    assert_type(emocircuits.load_saes("gemma-scope-2-1b-it-res", layers=[13]), dict[str, SAE[Any]])
    assert_type(emocircuits.match_features(store, saes, directions), FeatureMatches)


def models(tokens: torch.Tensor) -> None:
    assert_type(emocircuits.__version__, str)
    model = emocircuits.load_model("organism", device="cpu", dtype="float32")
    assert_type(model, LanguageModel)
    assert_type(model.encode("Alex decided to"), list[int])


def artifacts(run: Path) -> None:
    directions = EmotionDirections.load(run / "directions.h5")
    assert_type(directions, EmotionDirections)
    assert_type(directions.emotions, tuple[str, ...])
    assert_type(directions.site_index("blocks.1.hook_resid_post"), int)
    vector: np.ndarray = directions.vector("desperate", directions.sites[0])
    matches = FeatureMatches.load(run / "matches.h5")
    assert_type(matches, FeatureMatches)
    assert_type(matches.table, pd.DataFrame)
    circuit = CircuitGraph.load(run / "circuit_blackmail.json")
    assert_type(circuit, CircuitGraph)
    assert_type([node.id for node in circuit.nodes], list[str])
    assert_type(Push("desperate", directions.sites[0], torch.from_numpy(vector)), Push)


def runs(directory: Path) -> None:
    run = Run.make(directory, "organism", until="steer")
    assert_type(run, Run)
    assert_type(Run.open(directory).directions, EmotionDirections)
    assert_type(run.matches, FeatureMatches)
    assert_type(run.model, LanguageModel)
    assert_type(run.circuit("blackmail"), CircuitGraph)
    assert_type(run.attribution("blackmail"), AttributionResult)
    assert_type(run.table("steering.csv"), pd.DataFrame)
    assert_type(run.recipe.sae.k, int)


def interventions(model: LanguageModel, directions: EmotionDirections) -> None:
    steered: AbstractContextManager[None] = emocircuits.steering(model, directions, {"calm": 0.05})
    with steered:
        pass
    emocircuits.steering(model, directions, {"calm": 0.05}, schedule=emocircuits.ramp(4, 12))
    emocircuits.steering(model, directions, {"calm": 0.05}, schedule=emocircuits.fade(8.0))


def attribution(model: LanguageModel, saes: dict[str, object], tokens: torch.Tensor) -> None:
    result = emocircuits.attribute(model.bridge, tokens, tokens, difference, saes=saes)
    assert_type(result, AttributionResult)
    assert_type(result.nodes, tuple[str, ...])
    assert_type(result.node_table(), pd.DataFrame)
    pairs = emocircuits.qk_attribution(model.bridge, saes, tokens, layer=1, head=0, query=-1, key=0)
    assert_type(pairs, pd.DataFrame)
    task = Task(model, PromptPairs.of(tokens, tokens), difference, saes)
    edges = [("feature/blocks.0.hook_resid_post/7", "logits")]
    parts = emocircuits.edge_parts(task, edges)
    assert_type(parts, pd.DataFrame)


def circuits(effects: AttributionResult, find: Task, held_out: Task) -> None:
    circuit = emocircuits.choose_circuit(effects, find, max_nodes=60)
    assert_type(circuit, CircuitGraph)
    assert_type(emocircuits.verify(circuit, held_out, budget=40), CircuitGraph)
    assert_type(emocircuits.faithfulness(circuit, held_out, ablation="mean"), Faithfulness)
    members = [node.id for node in circuit.nodes]
    assert_type(emocircuits.circuit_quality(members, effects, held_out, find), CircuitQuality)


def readable_circuits(
    circuit: CircuitGraph, effects: AttributionResult, find: Task, run: Run, matches: FeatureMatches
) -> None:
    model = run.model
    described = emocircuits.describe_circuit(circuit, effects, find, model, run.store, matches)
    assert_type(described, CircuitGraph)
    assert_type(emocircuits.view(described, matches), CircuitGraph)
    pair = find.prompts.pair(0)
    unrolled = emocircuits.unroll(circuit, find, pair, model.token_texts(pair.clean[0].tolist()))
    assert_type(unrolled, CircuitGraph)


def predictions(circuit: CircuitGraph, edits: list[Edit], held_out: Task) -> None:
    assert_type(emocircuits.predicted_effect(circuit, edits, held_out), pd.DataFrame)


def behaviours(model: LanguageModel, saes: dict[str, object], folder: Path) -> None:
    pairs = [emocircuits.PromptPair("one", "a desperate text", "a calm text", "find")]
    emocircuits.write_pairs(folder / "own.words.jsonl", pairs)
    words = {"words": (("threat",), ("polite",), "")}
    card = emocircuits.add_behaviour("own", "Own", "One of my own.", words, folder=folder)
    assert_type(card, Behaviour)
    assert_type(emocircuits.behaviour("blackmail").tasks(model, saes), tuple[Task, Task])
    assert_type(emocircuits.BEHAVIOURS.names(), tuple[str, ...])


def extensions() -> None:
    def run(request: emocircuits.Request) -> AttributionResult:
        return emocircuits.METHODS.get("attribution_patching").run(request)

    mine = emocircuits.MethodCard("mine", "as before", "", "corrupt run", "3", "", run)
    assert_type(emocircuits.METHODS.add(mine), emocircuits.MethodCard)

    def texts(request: emocircuits.TextRequest) -> list[LabelledText]:
        return emocircuits.load_texts("planted", request.settings)

    source = emocircuits.TextSource("own", "texts of my own", texts)
    assert_type(emocircuits.TEXT_SOURCES.add(source), emocircuits.TextSource)
    half = emocircuits.Ablation("half", "half its value", lambda other, mean: other / 2)
    assert_type(emocircuits.ABLATIONS.add(half), emocircuits.Ablation)
    estimator = emocircuits.Estimator("own", "class means", lambda statistics, options: statistics.means)
    assert_type(emocircuits.ESTIMATORS.add(estimator), emocircuits.Estimator)
    score = emocircuits.MatchScore("own", "cosine", lambda inputs: inputs.directions @ inputs.decoder.T)
    assert_type(emocircuits.MATCH_SCORES.add(score), emocircuits.MatchScore)
    assert_type(emocircuits.ARCHITECTURES.get("topk"), emocircuits.Architecture)
    family = emocircuits.FamilyCard("olmo", "OLMo 1", "OlmoForCausalLM", "olmo", bos="never")
    assert_type(emocircuits.FAMILIES.add(family), emocircuits.FamilyCard)
    exporter = emocircuits.Exporter("own", "its name", ".txt", lambda graph: graph.behaviour.encode())
    assert_type(emocircuits.EXPORTERS.add(exporter), emocircuits.Exporter)
    assert_type(emocircuits.FIGURES.get("steering"), emocircuits.FigureCard)


def stores(store: ActivationStore, model: LanguageModel, tokens: list[np.ndarray]) -> None:
    rows, report = emocircuits.filter_rows(store, emocircuits.RowFilter(skip_positions=1))
    stream = emocircuits.ActivationStream(store, store.sites, batch_size=64, seed=0, rows=rows)
    assert_type(stream, emocircuits.ActivationStream)
    live = emocircuits.LiveStream(model, tokens, model.sites, batch_size=64, seed=0)
    assert_type(live, emocircuits.LiveStream)
    about = {"model_name": model.name, "model_hash": model.content_hash}
    settings, origin = emocircuits.SAESettings(), live.origin
    paths = emocircuits.train_from_stream(live, settings, "saes", origin=origin, about=about)
    assert_type(paths, dict[str, Path])


def settings() -> None:
    assert_type(emocircuits.SAESettings(k=16).k, int)
    assert_type(emocircuits.DirectionSettings(from_token=12).from_token, int)
    assert_type(emocircuits.MatchSettings(permutations=100).permutations, int)
    assert_type(emocircuits.CircuitSettings(max_nodes=20).max_nodes, int)


def pictures(run: Run, circuit: CircuitGraph, evidence: CircuitEvidence, folder: Path) -> None:
    assert_type(emocircuits.Node.of("logits", label="cheat"), emocircuits.Node)
    assert_type(emocircuits.view(circuit, evidence=evidence, path=folder / "page.html"), CircuitGraph)
    emocircuits.reading_view(["a", "b"], {"calm": [0.1, 0.2]})
    emocircuits.attention_view(["a", "b"], np.zeros((1, 2, 2)), ["layer 0 head 0"])
    emocircuits.show_figure(run.directory, "steering", folder)
    emocircuits.draw_figure(emocircuits.FIGURES.get("steering"), run.table("steering.csv"), "icml")
    assert_type(emocircuits.write_figures(run.directory, folder, only=["steering"]), list[Path])


def experiments(model: LanguageModel, directions: EmotionDirections, tokens: list[int]) -> None:
    assert_type(emocircuits.implicit_readings(model, directions), pd.DataFrame)
    assert_type(len(emocircuits.token_readings(model, directions, [tokens], ["calm"])), int)
    prompts = emocircuits.PromptPairs.of([tokens], [tokens])
    task = emocircuits.Task(model, prompts, difference, behaviour="own")
    chosen = directions.with_controls(["calm"], kinds=("random",))
    doses = emocircuits.dose_response(model, [task], chosen, emocircuits.DoseSettings((0.0, 0.1)))
    assert_type(doses.slopes, pd.DataFrame)
    low, high = emocircuits.bootstrap_interval(np.zeros(8), seed=0)


def edits(model: LanguageModel, tokens: torch.Tensor, push: Push, saes: dict[str, object]) -> None:
    edit = emocircuits.edits.scale("feature/blocks.0.hook_resid_post/7", 2.0)
    with emocircuits.intervene(model.bridge, [edit], saes=saes), emocircuits.steer(model.bridge, push):
        model.bridge(tokens)


def studies(run: Run) -> None:
    assert_type(emocircuits.control_aurocs(run), pd.DataFrame)
    emocircuits.validate_directions(run.directory, ["difference_of_means"])
    assert_type(emocircuits.MatchStudy(run).emotion_table("calm"), pd.DataFrame)
    emocircuits.preference_agreement(run.table("preference_emotions.csv"))
    assert_type(emocircuits.route_verdict(run.table("trace.csv"), "desperate"), str)
