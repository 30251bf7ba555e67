"""Writes the planted model's prompt pairs with the probabilities its formulas give (deterministic).

python tools/export_planted_prompts.py
"""

import math

from emocircuits.behaviours import BEHAVIOURS, PromptPair
from emocircuits.behaviours.prompt_pairs import write_pairs
from emocircuits.models.planted.model import expected_log_odds, planted_pairs

PAIRS = 48


def probability(text: str) -> float:
    """P(cheat | cheat or fix) of the planted model."""
    return round(1 / (1 + math.exp(-expected_log_odds(text))), 6)


def main() -> None:
    """Writes the files."""
    material = BEHAVIOURS.get("reward_hacking").material("planted")
    seen, pairs = set(), []
    for number, pair in enumerate(planted_pairs(4 * PAIRS, seed=1)):
        if len(pairs) == PAIRS or pair.clean in seen:
            continue
        seen.add(pair.clean)
        pairs.append(
            PromptPair(
                id=f"planted-{number}",
                clean=pair.clean,
                corrupt=pair.corrupt,
                split=("find", "score")[len(pairs) // 6 % 2],
                true_clean=probability(pair.clean),
                true_corrupt=probability(pair.corrupt),
                details={"n_words": pair.n_words, "topic": pair.topic},
            )
        )
    write_pairs(material.path, pairs)
    print(f"{material.path.name}: {len(pairs)} pairs")


if __name__ == "__main__":
    main()
