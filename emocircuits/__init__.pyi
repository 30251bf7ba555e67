# The public names, one line each; a new name needs its line here and its use in tests/typing/api.py.
# Type checkers and editors read this list; `__init__.py` reads it at run time and imports a name when it is
# first asked for.
from emocircuits.activations.prompts import LabelledText as LabelledText
from emocircuits.activations.residuals import collect as collect
from emocircuits.activations.settings import CollectSettings as CollectSettings
from emocircuits.activations.texts import TEXT_SOURCES as TEXT_SOURCES
from emocircuits.activations.texts import TextRequest as TextRequest
from emocircuits.activations.texts import TextSource as TextSource
from emocircuits.activations.texts import load_texts as load_texts
from emocircuits.artifacts.circuit import CircuitGraph as CircuitGraph
from emocircuits.artifacts.directions import EmotionDirections as EmotionDirections
from emocircuits.artifacts.matches import FeatureMatches as FeatureMatches
from emocircuits.artifacts.push import Push as Push
from emocircuits.attribution.attribute import attribute as attribute
from emocircuits.attribution.edge_parts import edge_parts as edge_parts
from emocircuits.attribution.methods import METHODS as METHODS
from emocircuits.attribution.methods.card import MethodCard as MethodCard
from emocircuits.attribution.methods.card import Request as Request
from emocircuits.attribution.qk_attribution import qk_attribution as qk_attribution
from emocircuits.behaviours.behaviour import BEHAVIOURS as BEHAVIOURS
from emocircuits.behaviours.behaviour import add_behaviour as add_behaviour
from emocircuits.behaviours.behaviour import behaviour as behaviour
from emocircuits.behaviours.material import PromptPair as PromptPair
from emocircuits.behaviours.prompt_pairs import write_pairs as write_pairs
from emocircuits.circuits.choose import choose_circuit as choose_circuit
from emocircuits.circuits.describe import describe_circuit as describe_circuit
from emocircuits.circuits.faithfulness import faithfulness as faithfulness
from emocircuits.circuits.predicted import predicted_effect as predicted_effect
from emocircuits.circuits.quality import circuit_quality as circuit_quality
from emocircuits.circuits.unroll import unroll as unroll
from emocircuits.circuits.verify import verify as verify
from emocircuits.circuits.view import view as view
from emocircuits.directions.learn import learn_directions as learn_directions
from emocircuits.interventions.ablate import ABLATIONS as ABLATIONS
from emocircuits.interventions.ablate import Ablation as Ablation
from emocircuits.interventions.dial import steering as steering
from emocircuits.matching.match import match_features as match_features
from emocircuits.models.loader import load_model as load_model
from emocircuits.passes.prompt_pairs import PromptPairs as PromptPairs
from emocircuits.passes.task import Task as Task
from emocircuits.runs.run import Run as Run
from emocircuits.sae.loading.load import load_saes as load_saes
from emocircuits.sae.training.train import train_saes as train_saes

__all__: list[str]
__version__: str
