"""How features are matched."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MatchSettings:
    """How features are matched. Stories, splits and the first token that counts are those of the directions.

    Attributes:
        permutations: label permutations behind the p-values.
        q_value: largest q of a match.
        max_density: features that fire on more than this share of tokens, whichever one emotion's stories are
            left out, are generic and take no part.
        min_stories: features that fire in fewer stories take no part.
        min_firings: features that fire on fewer tokens of the stories take no part.
        per_emotion: most rows of the table per emotion and site.
        carrier_share: the features that write most of a direction, as a share of the dictionary: what is
            taken out to see whether a reading falls, and what is held to see whether steering stops working.
        seed: seed of permutations and of random directions and features.
    """

    permutations: int = 1000
    q_value: float = 0.05
    max_density: float = 0.1
    min_stories: int = 5
    min_firings: int = 20
    per_emotion: int = 5
    carrier_share: float = 0.02
    seed: int = 0

    def carriers(self, d_sae: int) -> int:
        """How many carriers a dictionary of this size has: at most the share, at least one."""
        return max(1, int(self.carrier_share * d_sae))
