"""How directions are learned, and which sites that concerns."""

from dataclasses import dataclass

from emocircuits.errors import UserError
from emocircuits.names import depth_of
from emocircuits.settings import check, setting

ESTIMATOR_NAMES = (
    "difference_of_means",
    "one_vs_others",
    "vs_neutral",
    "linear_discriminant",
    "logistic_probe",
    "contrast_pca",
)
REFUSE = 0.6  # Cramér's V of topic and emotion from which directions are refused
CENTRES = ("emotions", "stories", "others", "neutral", "topics")


@dataclass(frozen=True)
class DirectionSettings:
    """How directions are learned: the table `[directions]` of a recipe."""

    estimator: str = setting(
        "difference_of_means", "how a direction is made from stories", choices=ESTIMATOR_NAMES, open=True
    )
    from_token: int = setting(
        20, "first token of a story that counts (the paper: 50, of longer stories)", unit="tokens", least=1
    )
    neutral_variance: float = setting(
        0.5, "share of the variance of neutral text that is projected out (the paper: 0.5)", least=0, most=1
    )
    centre: str = setting(
        "emotions", "what is taken off a class mean (the paper: the mean over emotions)", choices=CENTRES
    )
    penalty: float = setting(
        1.0, "ridge of the discriminant and of the probes, as a share of the stories' mean variance", least=0
    )
    token_norm: bool = setting(False, "scale every token to the mean norm before it is averaged")
    from_depth: float = setting(
        0.0, "first site, as a fraction of depth (site i of n lies at (i + 1) / n)", least=0, most=1
    )
    to_depth: float = setting(1.0, "last site, as a fraction of depth", least=0, most=1)
    story_kinds: tuple[str, ...] = setting(("story",), "kinds of text that are used as stories")
    neutral_kinds: tuple[str, ...] = setting(("neutral",), "kinds of text that are used as neutral text")
    named: bool | None = setting(
        False, "use stories that name the emotion (true), that do not (false), or, from Python, both (None)"
    )
    fit_split: str = setting("train", "split of stories that directions are learned from")
    held_out_split: str = setting("held_out", "split of stories that score them")
    min_stories: int = setting(2, "fewest stories of an emotion in each split", unit="stories", least=1)
    max_held_out: int = setting(
        200, "most held-out stories of an emotion that score it (the first ones)", unit="stories", least=1
    )
    max_topic_v: float = setting(
        REFUSE, "largest Cramér's V between topic and emotion that is not refused", least=0, most=1
    )
    content_topics: tuple[str, ...] = setting(
        (), "topics of the content controls; none given takes those with the most stories"
    )
    random_controls: int = setting(20, "random directions", unit="directions", least=0)
    covariance_controls: int = setting(
        20, "random directions with the covariance of stories", unit="directions", least=0
    )
    content_controls: int = setting(5, "directions of topics", unit="directions", least=0)
    shuffled_controls: int = setting(5, "directions of shuffled labels", unit="directions", least=0)
    splits: int = setting(5, "random halves behind the reliability", least=0)
    bootstrap: int = setting(100, "bootstrap replicates behind the intervals", least=0)
    refits: int = setting(
        2, "halves and replicates, at most, of estimators that are fitted again for each", least=0
    )
    read_depth: float = setting(
        2 / 3, "default site for reading, as a fraction of depth (the paper: about 2/3)", least=0, most=1
    )
    steer_depth: float = setting(
        2 / 3, "default site for steering, as a fraction of depth (the paper: the middle)", least=0, most=1
    )

    def __post_init__(self) -> None:
        check(self, "directions")


def chosen_sites(
    sites: tuple[str, ...], how: DirectionSettings, n_layers: int
) -> tuple[tuple[str, ...], str, str]:
    """The sites that have directions, and the default sites for reading and for steering, of those of a model
    of so many blocks that are looked at.

    Raises:
        UserError: no site lies between the depths, or a default site lies outside them.
    """
    between = sites_between(sites, how.from_depth, how.to_depth, n_layers)
    read_site, steer_site = (
        site_at_depth(sites, depth, n_layers) for depth in (how.read_depth, how.steer_depth)
    )
    for name, site in (("read_depth", read_site), ("steer_depth", steer_site)):
        if site not in between:
            raise UserError(
                f"directions.{name} means {site}, which lies outside the depths {how.from_depth:g} to "
                f"{how.to_depth:g}",
                expected=f"one of {', '.join(between)}",
                cure=f"change directions.{name}, directions.from_depth or directions.to_depth",
            )
    return between, read_site, steer_site


def sites_between(
    sites: tuple[str, ...], low: float | int, high: float | int, n_layers: int
) -> tuple[str, ...]:
    """Sites at or after one fraction of a model's depth and at or before another.

    Raises:
        UserError: no site lies there.
    """
    chosen = tuple(site for site in sites if low - 1e-9 <= depth_of(site, n_layers) <= high + 1e-9)
    if not chosen:
        raise UserError(
            f"no site lies between the depths {low:g} and {high:g}",
            expected=f"a stretch of 0 to 1 that holds some of {', '.join(sites)}",
            cure="change directions.from_depth or directions.to_depth",
        )
    return chosen


def site_at_depth(sites: tuple[str, ...], depth: float | int, n_layers: int) -> str:
    """The first site at or after a fraction of a model's depth, or the last one there is."""
    return next((site for site in sites if depth_of(site, n_layers) >= depth - 1e-9), sites[-1])
