"""What people want to read of a circuit: feature cards, labels, and how active its nodes are."""

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.matches import FeatureMatches
from emocircuits.artifacts.store.activation_store import ActivationStore
from emocircuits.circuits.activations import clean_activations
from emocircuits.circuits.feature_cards import card_label, feature_cards
from emocircuits.circuits.nodes import annotated
from emocircuits.models import LanguageModel
from emocircuits.names import TARGET
from emocircuits.passes.task import Task


def describe_circuit(
    circuit: CircuitGraph, task: Task, model: LanguageModel, store: ActivationStore, matches: FeatureMatches
) -> CircuitGraph:
    """The same circuit with labels, mean activations on clean prompts and feature cards.

    Args:
        circuit: a circuit of features, over all positions.
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
    return annotated(
        circuit,
        labels={**labels, TARGET: getattr(task.metric, "label", "")},
        activations=clean_activations(here, tuple(nodes)),
        details=cards,
    )
