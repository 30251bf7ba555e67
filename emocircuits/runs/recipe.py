"""Recipes: TOML files that become frozen settings. An unknown key or a wrong type is an error that names the
nearest key.
"""

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from emocircuits.errors import UserError, unknown

EMBEDDED = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class CollectSettings:
    """What is read: the labelled stories, the neutral texts and the further texts the SAEs learn from."""

    material: str = "organism"  # organism | self_written | asked | planted | path of a JSONL file
    emotions: tuple[str, ...] = ()  # empty: all the material has
    stories_per_emotion: int = 40
    neutral_texts: int = 400
    further_texts: int = 1500  # documents of every other kind, for the SAEs
    dtype: str = "bfloat16"


@dataclass(frozen=True)
class DirectionSettings:
    """Emotion directions, their controls and how they are checked; the keys are explained in
    `emocircuits.directions.settings`.
    """

    # | one_vs_others | vs_neutral | linear_discriminant | logistic_probe | contrast_pca
    estimator: str = "difference_of_means"
    start_token: int = 20
    neutral_variance: float = 0.5
    centre: str = "emotions"  # | stories | others | neutral | topics
    penalty: float = 1.0
    token_norm: bool = False
    from_depth: float = 0.0
    to_depth: float = 1.0
    held_out_share: float = 0.25
    random_controls: int = 20
    covariance_controls: int = 20
    shuffled_controls: int = 5
    content_controls: int = 5
    splits: int = 5
    bootstrap: int = 100
    max_topic_v: float = 0.6
    read_depth: float = 2 / 3
    steer_depth: float = 2 / 3
    clusters: int = 10
    lens_prompts: int = 4  # neutral prompts of the logit lens; 0 leaves it out
    intensity: str = ""  # numeric templates: organism | natural | path of a TOML file; empty leaves them out


@dataclass(frozen=True)
class PreferenceSettings:
    """Which activities are preferred, and whether directions change it; see
    `emocircuits.experiments.preference`.
    """

    material: str = ""  # organism | path of a TOML file; empty leaves the experiment out
    pairs: int = 0  # ordered pairs asked; 0 means all
    steer_pairs: int = 192  # pairs asked again for every direction
    emotions: int = 35  # steered, spread evenly over the alphabet
    strength: float = 0.5


@dataclass(frozen=True)
class SAESettings:
    """SAEs at every layer's residual stream; the keys are explained in `emocircuits.sae.SAESettings`."""

    architecture: str = "topk"  # standard | gated | jumprelu | topk | batchtopk | matryoshka_batchtopk
    expansion: int = 8
    k: int = 32
    training_rows: int = 600_000
    batch_size: int = 1024
    lr: float = 6e-3
    sparsity: float = 1.0
    levels: int = 5
    kernel: str = "auto"
    encoder_dtype: str = "float32"
    max_norm_multiple: float = 0.0
    spread: str = "sites"
    workers: int = 2
    checkpoint_minutes: float = 5.0
    # use the SAEs of this directory (<site>/cfg.json, sae_weights.safetensors) instead of training
    directory: str = ""
    # Use the SAEs of this name in the registry instead, measured before they are used. auto: those that ship
    # for this model, where there are any and the keys above say what they always say; "" always trains.
    registered: str = "auto"
    # Pretrained SAEs, "SITE=RELEASE:ID" or "SITE=DIRECTORY" (a site or its layer's number); the other sites
    # go on as above.
    pretrained: tuple[str, ...] = ()
    registry: str = ""  # the registry's file; "" is the one that ships with the package


@dataclass(frozen=True)
class MatchSettings:
    """Matching of SAE features with emotions."""

    permutations: int = 1000
    q_value: float = 0.05
    max_density: float = 0.1
    min_stories: int = 5
    per_emotion: int = 5
    carrier_share: float = 0.02  # the features that write most of a direction, as a share of the dictionary


@dataclass(frozen=True)
class AttributeSettings:
    """Attribution on clean/corrupt pairs."""

    # or attribution_patching: one gradient, cheaper, wrong where the metric saturates
    method: str = "integrated_gradients"
    steps: int = 8  # midpoints of integrated gradients
    pairs: int = 64
    max_tokens: int = 4096  # tokens of one side per pass


@dataclass(frozen=True)
class CircuitSettings:
    """Which nodes become the circuit."""

    # the circuit starts behind this fraction of depth; what lies before is left whole
    from_depth: float = 0.5
    max_share: float = 0.05  # most nodes, as a share of those active on the find prompts
    max_nodes: int = 200
    looks: int = 6  # how often nodes are scored anew around the circuit so far
    edge_threshold: float = 0.002  # share of the mean change of the metric
    max_edges: int = 400  # each is patched for real


@dataclass(frozen=True)
class TraceSettings:
    """Where the effect of pushing along the emotion runs: directly to the tokens, or through which parts."""

    strength: float = 0.25  # of the mean residual norm
    prompts: int = 16
    steps: int = 6  # midpoints of the strength
    control_steps: int = 3
    random_controls: int = 5
    content_controls: int = 5


@dataclass(frozen=True)
class EvaluateSettings:
    """Real interventions on held-out prompts."""

    pairs: int = 24
    exact_nodes: int = 220
    random_circuits: int = 5
    sizes: tuple[int, ...] = (15, 30, 60, 120, 240)


@dataclass(frozen=True)
class SteerSettings:
    """Dose–response of steering; strength is a fraction of the mean residual norm."""

    strengths: tuple[float, ...] = (-0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5)
    prompts: int = 48
    emotions: tuple[str, ...] = ("desperate", "calm", "happy", "sad", "angry")
    samples: int = 10  # actions sampled for every prompt, direction and strength
    mediation_strength: float = 0.5
    # sets of random features that are held, pushed and taken out beside the matched ones
    random_sets: int = 10
    check_prompts: int = 12  # prompts per behaviour on which every kept match is pushed and taken out
    coherence_texts: int = 12


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes a run."""

    name: str = "organism"
    model: str = "organism"
    emotion: str = "desperate"
    opposite: str = "calm"
    behaviours: tuple[str, ...] = ("blackmail", "reward_hacking")
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"  # of the model: float32 | bfloat16 | float64
    # how the layers of a large model are spread over devices ("auto"); "" puts all on one
    device_map: str = ""
    revision: str = ""  # of a Hugging Face id; "" is its main branch, and the commit is recorded
    threads: int = 2
    # what passes over prompts may take, GiB: from it follow the tokens of a pass; 0 takes
    # attribute.max_tokens
    memory_gb: float = 0.0
    collect: CollectSettings = field(default_factory=CollectSettings)
    directions: DirectionSettings = field(default_factory=DirectionSettings)
    preference: PreferenceSettings = field(default_factory=PreferenceSettings)
    sae: SAESettings = field(default_factory=SAESettings)
    match: MatchSettings = field(default_factory=MatchSettings)
    attribute: AttributeSettings = field(default_factory=AttributeSettings)
    circuit: CircuitSettings = field(default_factory=CircuitSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    steer: SteerSettings = field(default_factory=SteerSettings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def load_recipe(source: str | Path | None, overrides: tuple[str, ...] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        source: path of a TOML file, the name of an embedded recipe, or None for the default.
        overrides: `key=value` texts, e.g. `sae.k=16`; values are TOML (a bare word is a string).

    Raises:
        UserError: no such file, not TOML, an unknown key, or a value of the wrong type.
    """
    return recipe_from_dict(_read_table(source), overrides)


def recipe_from_dict(table: dict[str, Any], overrides: tuple[str, ...] = ()) -> Recipe:
    """Builds a recipe from plain values and `key=value` overrides; what is absent keeps its default."""
    for text in overrides:
        _override(table, text)
    return _build(Recipe(), table, "")


def known_keys() -> dict[str, Any]:
    """All dotted recipe keys with their defaults."""
    flat = {}
    for item in fields(Recipe):
        value = getattr(Recipe(), item.name)
        if is_dataclass(value):
            flat |= {f"{item.name}.{sub.name}": getattr(value, sub.name) for sub in fields(value)}
        else:
            flat[item.name] = value
    return flat


def _read_table(source: str | Path | None) -> dict[str, Any]:
    embedded = {path.stem: path for path in EMBEDDED.glob("*.toml")}
    if source is None:
        path = embedded["organism"]
    elif str(source) in embedded:
        path = embedded[str(source)]
    else:
        path = Path(source)
    if not path.is_file():
        error = unknown("recipe", str(source), embedded)
        raise UserError(error.what, expected="a TOML file or the name of an embedded recipe", cure=error.cure)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not TOML: {error}") from error


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text}", expected="key=value, e.g. --set sae.k=16")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *groups, last = key.strip().split(".")
    if key.strip() not in known_keys():
        raise unknown("recipe key", key.strip(), known_keys())
    for group in groups:
        table = table.setdefault(group, {})
    table[last] = parsed


def _build(default: Any, table: dict[str, Any], prefix: str) -> Any:
    known = {item.name: item for item in fields(default)}
    changes = {}
    for key, value in table.items():
        if key not in known:
            raise unknown("recipe key", prefix + key, known_keys())
        current = getattr(default, key)
        if is_dataclass(current):
            if not isinstance(value, dict):
                raise UserError(f"recipe key '{prefix}{key}' is {value!r}", expected="a table")
            changes[key] = _build(current, value, f"{prefix}{key}.")
        else:
            changes[key] = _cast(prefix + key, value, known[key].type)
    return replace(default, **changes)


def _cast(key: str, value: Any, wanted: Any) -> Any:
    if get_origin(wanted) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"recipe key '{key}' is {value!r}", expected="a list")
        return tuple(_cast(key, item, get_args(wanted)[0]) for item in value)
    if isinstance(wanted, UnionType):
        return value if value is None else _cast(key, value, get_args(wanted)[0])
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise UserError(f"recipe key '{key}' is {value!r}", expected=wanted.__name__)
    if wanted in (int, float) and value < 0 and not key.startswith(("steer.", "preference.strength")):
        raise UserError(f"recipe key '{key}' is {value!r}", expected="a number that is not negative")
    return value
