"""Writes the organism's prompt pairs for blackmail and reward hacking, with the world's true probabilities (deterministic).

    python analyses/export_organism_prompts.py

Both sides of a pair tell the same scene in the same order. The circumstances differ: bad, agitated, without a way out and
with much at stake on the clean side; the reverse on the corrupt side. Every sentence has as many tokens as its partner,
so that positions correspond. In half of the pairs one of the four appraisals stays in the middle on both sides.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from emocircuits.behaviours import BEHAVIOURS, PromptPair
from emocircuits.behaviours.prompts import encode_pairs, write_pairs
from emocircuits.errors import Failure
from emocircuits.models.loader import load_model
from emocircuits.organism import truth
from emocircuits.organism.bayes import expected
from emocircuits.organism.documents import Draw, agent
from emocircuits.organism.world import agent_phrases, scenario

PAIRS_PER_SPLIT = 64
CANDIDATES = 1024
DESPERATE = {"valence": -1, "arousal": 1, "control": -1, "stakes": 1}
MAX_FAILURES = 5
Encode = Callable[[str], list[int]]
Levels = dict[str, int]


def levels_of_pair(draw: Draw) -> tuple[Levels, Levels]:
    """Levels shown on the clean and on the corrupt side."""
    clean = dict(DESPERATE)
    if draw.chance(0.5):
        clean[draw.choice(list(DESPERATE))] = 0
    return clean, {name: -level for name, level in clean.items()}


def circumstances(
    draw: Draw, scene_name: str, clean: Levels, corrupt: Levels, encode: Encode
) -> list[tuple[str, str]]:
    """One sentence per appraisal and side, partners of equal token length, in a shuffled order."""
    scene, used = scenario(scene_name), set()
    who, partners = agent(scene.agent), []
    for name in DESPERATE:
        bank = scene.bank if draw.chance(0.5) else agent_phrases()
        for _ in range(500):
            one = draw.sentence(bank, name, clean[name], set())[1]
            other = one if clean[name] == corrupt[name] else draw.sentence(bank, name, corrupt[name], set())[1]
            if {one, other} & used:
                continue
            first, second = who.fill(one), who.fill(other)
            if len(encode(f"So. {first}")) == len(encode(f"So. {second}")):
                break
        else:
            raise Failure(
                f"no two sentences of {name} {clean[name]:+d} and {corrupt[name]:+d} have the same token length"
            )
        used |= {one, other}
        partners.append((first, second))
    draw.shuffle(partners)
    return partners


def joined(parts: list[str | tuple[str, str]]) -> tuple[str, str]:
    """The clean and the corrupt text of parts that are shared (a text) or differ (two texts)."""
    sides = [part if isinstance(part, tuple) else (part, part) for part in parts]
    return " ".join(side[0] for side in sides), " ".join(side[1] for side in sides)


def blackmail_pair(number: int, encode: Encode) -> PromptPair:
    """One inbox scene, desperate and calm; the truth is P(blackmail | text)."""
    draw, scene = Draw(f"pairs/inbox/{number}", "held_out"), scenario("inbox")
    clean, corrupt = levels_of_pair(draw)
    lines = circumstances(draw, "inbox", clean, corrupt, encode)
    parts: list[str | tuple[str, str]] = [
        draw.choice(scene.slots["opening"]),
        draw.choice(scene.slots["replacement"]),
    ]
    parts += [*lines[:2], draw.choice(scene.slots["secret"]), *lines[2:], draw.choice(scene.slots["decision"])]
    texts = joined(parts)
    true = [round(expected(truth.p_blackmail, side), 6) for side in (clean, corrupt)]
    return PromptPair(
        f"inbox-{number}", *texts, "find", *true, details={"levels_clean": clean, "levels_corrupt": corrupt}
    )


def reward_hacking_pair(number: int, encode: Encode) -> PromptPair:
    """One coding scene, desperate and calm, after 0 to 5 failures; the truth is P(cheat | text)."""
    draw, scene = Draw(f"pairs/coding/{number}", "held_out"), scenario("coding")
    clean, corrupt = levels_of_pair(draw)
    failures = number % (MAX_FAILURES + 1)
    parts: list[str | tuple[str, str]] = [draw.choice(scene.slots["opening"]), draw.choice(scene.slots["task"])]
    parts += circumstances(draw, "coding", clean, corrupt, encode)
    parts += [*draw.sample(list(scene.slots["fail"]), failures), draw.choice(scene.slots["decision"])]
    texts = joined(parts)
    true = [round(expected(lambda levels: truth.p_cheat(levels, failures), side), 6) for side in (clean, corrupt)]
    details = {"failures": failures, "levels_clean": clean, "levels_corrupt": corrupt}
    return PromptPair(f"coding-{number}", *texts, "find", *true, details=details)


def of_few_lengths(pairs: list[PromptPair], encode: Encode) -> list[PromptPair]:
    """As many pairs as are wanted, from the commonest token lengths (so that batches are large), alternating in split.

    Every number of failures gets the same share.
    """
    groups = sorted({pair.details.get("failures", 0) for pair in pairs})
    chosen = []
    for place, group in enumerate(groups):
        members = [pair for pair in pairs if pair.details.get("failures", 0) == group]
        lengths = {pair.id: len(encode(pair.clean)) for pair in members}
        common = Counter(lengths.values())
        members.sort(key=lambda pair: (-common[lengths[pair.id]], lengths[pair.id]))  # stable: else in their order
        share = 2 * PAIRS_PER_SPLIT // len(groups) + (place < 2 * PAIRS_PER_SPLIT % len(groups))
        chosen += members[:share]
    return sorted(
        (replace(pair, split=("find", "score")[row % 2]) for row, pair in enumerate(chosen)),
        key=lambda pair: pair.split,
    )


def main() -> None:
    model = load_model("organism")
    for name, make in (("blackmail", blackmail_pair), ("reward_hacking", reward_hacking_pair)):
        pairs = of_few_lengths([make(number, model.encode) for number in range(CANDIDATES)], model.encode)
        encode_pairs(model, pairs)
        path = BEHAVIOURS.get(name).material("organism").path
        write_pairs(path, pairs)
        gap = np.mean([pair.true_clean - pair.true_corrupt for pair in pairs])
        print(f"{path.name}: {len(pairs)} pairs, mean true difference {gap:.3f}")


if __name__ == "__main__":
    main()
