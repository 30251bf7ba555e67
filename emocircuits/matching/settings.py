"""How features are matched."""

from dataclasses import dataclass

from emocircuits.settings import check, setting


@dataclass(frozen=True)
class MatchSettings:
    """How features are matched: the table `[match]` of a recipe.

    Stories, splits and the first token that counts are those of the directions.
    """

    permutations: int = setting(1000, "label permutations behind the p-values", least=1)
    q_value: float = setting(0.05, "largest q of a match", least=0, most=1)
    max_density: float = setting(
        0.1,
        "features that fire on more than this share of tokens, whichever one emotion's stories are left out, "
        "are generic and take no part",
        least=0,
        most=1,
    )
    min_stories: int = setting(5, "features that fire in fewer stories take no part", unit="stories", least=0)
    min_firings: int = setting(
        20, "features that fire on fewer tokens of the stories take no part", unit="tokens", least=0
    )
    per_emotion: int = setting(5, "most rows of the table per emotion and site", unit="rows", least=1)
    carrier_share: float = setting(
        0.02,
        "the features that write most of a direction, as a share of the dictionary: what is taken out to see "
        "whether a reading falls, and held to see whether steering stops working",
        least=0,
        most=1,
    )

    def __post_init__(self) -> None:
        check(self, "match")

    def carriers(self, d_sae: int) -> int:
        """How many carriers a dictionary of this size has: at most the share, at least one."""
        return max(1, int(self.carrier_share * d_sae))
