"""What people want to read of a circuit: feature cards, labels, how active its nodes are, and the circuit
over the tokens of one prompt.
"""

from dataclasses import replace

import numpy as np

from emocircuits.artifacts.attribution import AttributionResult
from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.circuits.activations import clean_activations
from emocircuits.circuits.feature_cards import card_label, feature_cards
from emocircuits.circuits.nodes import annotated
from emocircuits.circuits.unroll import unroll
from emocircuits.models import LanguageModel
from emocircuits.names import TARGET
from emocircuits.passes.prompt_pairs import PairBatch, PromptPairs
from emocircuits.passes.task import Task


def describe_circuit(
    circuit: CircuitGraph,
    effects: AttributionResult,
    task: Task,
    model: LanguageModel,
    store: ActivationStore,
    matches: FeatureMatches,
) -> CircuitGraph:
    """The same circuit with labels, mean activations on clean prompts, feature cards, and unrolled over the
    prompt pair on which the metric changes most typically; what the circuit stage of a run saves.

    Args:
        circuit: a circuit of features, over all positions.
        effects: the effects that it was chosen by.
        task: the prompts and the SAEs that it was found with; where its metric has a `label`, the metric's
            node takes it.
        model: the model, for texts of tokens.
        store: activations that examples come from.
        matches: scores of the features against emotions.
    """
    nodes = {node.id: node for node in circuit.nodes if node.kind in ("feature", "error")}
    here = task.at_sites([site for site in task.saes if site in {node.site for node in nodes.values()}])
    saes = {site: dictionary.sae for site, dictionary in here.dictionaries.items()}
    cards = feature_cards(model, saes, store, matches, tuple(nodes))
    labels = {name: card_label(name, cards.get(name), node.label) for name, node in nodes.items()}
    described = annotated(
        circuit,
        labels={**labels, TARGET: getattr(task.metric, "label", "")},
        activations=clean_activations(here, tuple(nodes)),
        details=cards,
    )
    example = typical_pair(effects, task.prompts)
    texts = model.token_texts(example.clean[0].tolist())
    inside = task.at_sites(circuit.conventions.get("sites", tuple(task.saes)))
    return replace(described, example=unroll(described, inside, example, texts))


def typical_pair(effects: AttributionResult, prompts: PromptPairs) -> PairBatch:
    """The pair whose metric changes most typically: the median change, the shorter prompt where two are as
    near.
    """
    change = effects.metric_clean - effects.metric_corrupt
    middle = np.sort(change)[len(change) // 2]
    length = {number: group.clean.shape[1] for group in prompts.groups for number in group.index.tolist()}
    order = sorted(length)  # rows of a result are in the order of the pairs' numbers
    nearest = min(range(len(order)), key=lambda row: (abs(change[row] - middle), length[order[row]], row))
    return prompts.pair(order[nearest])
