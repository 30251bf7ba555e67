# The public names, one line each; a new name needs its line here and its use in tests/typing/api.py.
# Type checkers and editors read this list; `__init__.py` reads it at run time and imports a name when it is
# first asked for.
from emocircuits.artifacts.directions import EmotionDirections as EmotionDirections
from emocircuits.artifacts.matches import FeatureMatches as FeatureMatches
from emocircuits.artifacts.push import Push as Push
from emocircuits.attribution.attribute import attribute as attribute
from emocircuits.attribution.edge_parts import edge_parts as edge_parts
from emocircuits.attribution.qk_attribution import qk_attribution as qk_attribution
from emocircuits.circuits import CircuitGraph as CircuitGraph
from emocircuits.interventions.dial import steering as steering
from emocircuits.models.loader import load_model as load_model
from emocircuits.runs.run import Run as Run

__all__: list[str]
__version__: str
