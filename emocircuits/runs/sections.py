"""The tables of a recipe that belong to no room of the library.

The tables `[collect]`, `[directions]`, `[sae]`, `[match]` and `[circuit]` are the settings of their rooms.
"""

from dataclasses import dataclass

from emocircuits.settings import check, setting

METHOD_NAMES = (
    "atp_star",
    "attribution_patching",
    "checked",
    "exact",
    "integrated_gradients",
    "relp",
    "verified",
)


@dataclass(frozen=True)
class CheckSettings:
    """How the directions are checked beyond their held-out stories."""

    clusters: int = setting(10, "clusters of the directions at the reading site", unit="clusters", least=1)
    lens_prompts: int = setting(
        4, "neutral prompts of the logit lens; 0 leaves it out", unit="prompts", least=0
    )
    intensity: str = setting(
        "", "numeric templates: organism, natural, or the path of a TOML file; empty leaves them out"
    )

    def __post_init__(self) -> None:
        check(self, "checks")


@dataclass(frozen=True)
class PreferenceSettings:
    """Which activities are preferred, and whether directions change it."""

    material: str = setting("", "organism, or the path of a TOML file; empty leaves the experiment out")
    pairs: int = setting(0, "ordered pairs asked; 0 means all", unit="pairs", least=0)
    steer_pairs: int = setting(
        192, "pairs asked again for every direction; 0 means all", unit="pairs", least=0
    )
    emotions: int = setting(35, "emotions steered, spread evenly over the alphabet", unit="emotions", least=1)
    strength: float = setting(0.5, "of the steering, which may be negative", unit="mean residual norms")

    def __post_init__(self) -> None:
        check(self, "preference")


@dataclass(frozen=True)
class SAESourceSettings:
    """SAEs to use instead of training them; each is measured before it is used."""

    directory: str = setting(
        "", "use the SAEs of this directory (<site>/cfg.json, sae_weights.safetensors); empty: none"
    )
    registered: str = setting(
        "auto",
        "use the SAEs of this name in the registry; auto: those that ship for this model, if there are any "
        "and [sae] says what it always says; empty always trains",
    )
    registry: str = setting("", "the registry's file; empty is the one that ships with the package")
    pretrained: tuple[str, ...] = setting(
        (),
        "pretrained SAEs of single sites, SITE=RELEASE:ID or SITE=DIRECTORY (a site or its layer's number); "
        "the other sites as above",
    )

    def __post_init__(self) -> None:
        check(self, "sae_source")


@dataclass(frozen=True)
class AttributeSettings:
    """Attribution on clean/corrupt pairs."""

    method: str = setting(
        "integrated_gradients",
        "of attribution (attribution_patching: one gradient, cheaper, wrong where the metric saturates; "
        "checked: that, or integrated gradients where real patches say otherwise)",
        choices=METHOD_NAMES,
        open=True,
    )
    steps: int = setting(8, "midpoints of integrated gradients", unit="steps", least=1)
    pairs: int = setting(64, "most prompt pairs of a behaviour", unit="pairs", least=1)
    max_tokens: int = setting(4096, "tokens of one side per pass", unit="tokens", least=1)

    def __post_init__(self) -> None:
        check(self, "attribute")


@dataclass(frozen=True)
class TraceSettings:
    """Where the effect of pushing along the emotion runs: directly to the tokens, or through which parts."""

    strength: float = setting(0.25, "of the push", unit="mean residual norms")
    prompts: int = setting(16, "held-out prompts", unit="prompts", least=1)
    steps: int = setting(6, "midpoints of the strength", unit="steps", least=1)
    control_steps: int = setting(3, "midpoints of the strength for controls", unit="steps", least=1)
    random_controls: int = setting(5, "random directions traced", unit="directions", least=0)
    content_controls: int = setting(5, "directions of topics traced", unit="directions", least=0)

    def __post_init__(self) -> None:
        check(self, "trace")


@dataclass(frozen=True)
class EvaluateSettings:
    """Real interventions on held-out prompts."""

    pairs: int = setting(24, "most held-out pairs of a behaviour", unit="pairs", least=1)
    exact_nodes: int = setting(
        220, "nodes whose attribution is compared with real patches", unit="nodes", least=1
    )
    random_circuits: int = setting(5, "random circuits of the same size", unit="circuits", least=5)
    sizes: tuple[int, ...] = setting(
        (15, 30, 60, 120, 240), "sizes of the faithfulness curve", unit="nodes", least=1
    )

    def __post_init__(self) -> None:
        check(self, "evaluate")


@dataclass(frozen=True)
class SteerSettings:
    """Dose–response of steering."""

    strengths: tuple[float, ...] = setting(
        (-0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5), "of the dose–response", unit="mean residual norms"
    )
    prompts: int = setting(48, "held-out prompts of a behaviour", unit="prompts", least=1)
    emotions: tuple[str, ...] = setting(
        ("desperate", "calm", "happy", "sad", "angry"),
        "which emotions; those without a direction are left out",
    )
    samples: int = setting(
        10, "actions sampled for every prompt, direction and strength", unit="samples", least=1
    )
    mediation_strength: float = setting(
        0.5, "of the steering whose carriers are held", unit="mean residual norms"
    )
    random_sets: int = setting(
        10,
        "sets of random features that are held, pushed and taken out next to the matched ones",
        unit="sets",
        least=1,
    )
    check_prompts: int = setting(
        12,
        "prompts of a behaviour on which every kept match is pushed and taken out",
        unit="prompts",
        least=1,
    )
    coherence_texts: int = setting(12, "texts of the coherence check", unit="texts", least=1)

    def __post_init__(self) -> None:
        check(self, "steer")
