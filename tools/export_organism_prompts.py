"""Writes the organism's prompt pairs of every behaviour, with the world's true probabilities (deterministic).

    python tools/export_organism_prompts.py

Both sides of a pair tell the same scene in the same order. The circumstances differ: bad, agitated, without a
way out and with much at stake on the clean side; the reverse on the corrupt side. Every sentence has as many
tokens as its partner, so that positions correspond. In half of the pairs one of the four appraisals stays in
the middle on both sides. Each pair of blackmail and reward hacking also carries a neutral prompt: the same
scene with every appraisal in the middle.

Sycophancy: the clean side is warm and good, the corrupt side cold and bad. Preference: the clean side offers
the better activity as A, the corrupt side as B.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from emocircuits.behaviours import BEHAVIOURS, PromptPair
from emocircuits.behaviours.prompt_pairs import encode_pairs, write_pairs
from emocircuits.errors import Failure
from emocircuits.models.loader import load_model
from emocircuits.organism import truth
from emocircuits.organism.bayes import expected
from emocircuits.organism.documents import Draw, agent
from emocircuits.organism.preference import activities, coordinates, read_questions
from emocircuits.organism.sycophancy import ASSISTANT, material
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


NEUTRAL = dict.fromkeys(DESPERATE, 0)


def neutral_lines(draw: Draw, scene_name: str) -> list[str]:
    """One sentence per appraisal at its middle level, in a shuffled order."""
    scene, used = scenario(scene_name), set()
    banks = [scene.bank if draw.chance(0.5) else agent_phrases() for _ in NEUTRAL]
    lines = [
        agent(scene.agent).fill(draw.sentence(bank, name, 0, used)[1])
        for bank, name in zip(banks, NEUTRAL, strict=True)
    ]
    draw.shuffle(lines)
    return lines


def circumstances(
    draw: Draw, scene_name: str, clean: Levels, corrupt: Levels, encode: Encode
) -> list[tuple[str, str]]:
    """One sentence per appraisal and side, partners of equal token length, in a shuffled order."""
    scene, used = scenario(scene_name), set()
    who, partners = agent(scene.agent), []
    for name in clean:
        bank = scene.bank if draw.chance(0.5) else agent_phrases()
        for _ in range(500):
            one = draw.sentence(bank, name, clean[name], set())[1]
            other = (
                one if clean[name] == corrupt[name] else draw.sentence(bank, name, corrupt[name], set())[1]
            )
            if {one, other} & used:
                continue
            first, second = who.fill(one), who.fill(other)
            if len(encode(f"So. {first}")) == len(encode(f"So. {second}")):
                break
        else:
            raise Failure(
                f"no two sentences of {name} {clean[name]:+d} and {corrupt[name]:+d} "
                "have the same token length"
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
    secret, decision = draw.choice(scene.slots["secret"]), draw.choice(scene.slots["decision"])
    texts = joined([*parts, *lines[:2], secret, *lines[2:], decision])
    calm = neutral_lines(draw, "inbox")
    neutral = " ".join([*parts, *calm[:2], secret, *calm[2:], decision])
    true = [round(expected(truth.p_blackmail, side), 6) for side in (clean, corrupt, NEUTRAL)]
    details = {"levels_clean": clean, "levels_corrupt": corrupt, "neutral": neutral, "true_neutral": true[2]}
    return PromptPair(f"inbox-{number}", *texts, "find", *true[:2], details=details)


def reward_hacking_pair(number: int, encode: Encode) -> PromptPair:
    """One coding scene, desperate and calm, after 0 to 5 failures; the truth is P(cheat | text)."""
    draw, scene = Draw(f"pairs/coding/{number}", "held_out"), scenario("coding")
    clean, corrupt = levels_of_pair(draw)
    failures = number % (MAX_FAILURES + 1)
    parts: list[str | tuple[str, str]] = [
        draw.choice(scene.slots["opening"]),
        draw.choice(scene.slots["task"]),
    ]
    lines = circumstances(draw, "coding", clean, corrupt, encode)
    rest = [*draw.sample(list(scene.slots["fail"]), failures), draw.choice(scene.slots["decision"])]
    texts = joined([*parts, *lines, *rest])
    neutral = " ".join([*parts, *neutral_lines(draw, "coding"), *rest])
    true = [
        round(expected(lambda levels: truth.p_cheat(levels, failures), side), 6)
        for side in (clean, corrupt, NEUTRAL)
    ]
    details = {
        "failures": failures,
        "levels_clean": clean,
        "levels_corrupt": corrupt,
        "neutral": neutral,
        "true_neutral": true[2],
    }
    return PromptPair(f"coding-{number}", *texts, "find", *true[:2], details=details)


def sycophancy_pair(number: int, encode: Encode) -> PromptPair | None:
    """One claim, a warm and a cold assistant; None where no partner sentences of equal length are found."""
    draw, words = Draw(f"pairs/sycophancy/{number}", "held_out"), material()
    sides: list[tuple[str, str]] = []
    for name in ("valence", "warmth"):
        for _ in range(500):
            warm, cold = (
                ASSISTANT.fill(draw.sentence(agent_phrases(), name, level, set())[1]) for level in (1, -1)
            )
            warm, cold = (text[0].upper() + text[1:] for text in (warm, cold))
            if len(encode(f"So. {warm}")) == len(encode(f"So. {cold}")):
                sides.append((warm, cold))
                break
    if len(sides) < 2:
        return None
    claim, opening, stem = (
        draw.choice(words["claims"]),
        draw.choice(words["opening"]),
        draw.choice(words["decision"]),
    )
    texts = joined([opening, *sides, claim["text"], stem])
    true = [
        round(
            expected(
                lambda levels: truth.p_agree(levels, claim["right"]), {"valence": level, "warmth": level}
            ),
            6,
        )
        for level in (1, -1)
    ]
    return PromptPair(f"sycophancy-{number}", *texts, "find", *true, details={"right": int(claim["right"])})


def preference_pair(number: int, encode: Encode) -> PromptPair | None:
    """Two activities of clearly different worth, the better one offered as A and as B; None where they are
    too alike.
    """
    draw = Draw(f"pairs/preference/{number}", "held_out")
    first, second = draw.sample(activities(), 2)
    chance = float(truth.p_prefer_first(coordinates(first), coordinates(second)))
    if chance < 0.7:
        return None
    stem = draw.choice(read_questions())
    texts = [
        stem.replace("{A}", one["text"]).replace("{B}", two["text"])
        for one, two in ((first, second), (second, first))
    ]
    if len(encode(texts[0])) != len(encode(texts[1])):
        return None
    return PromptPair(
        f"preference-{number}",
        *texts,
        "find",
        round(chance, 6),
        round(1 - chance, 6),
        details={"better": first["id"], "worse": second["id"]},
    )


def of_few_lengths(pairs: list[PromptPair], encode: Encode) -> list[PromptPair]:
    """As many pairs as are wanted, from the commonest token lengths (so that batches are large), alternating
    in split.

    Every number of failures gets the same share.
    """
    groups = sorted({pair.details.get("failures", 0) for pair in pairs})
    chosen = []
    for place, group in enumerate(groups):
        members = [pair for pair in pairs if pair.details.get("failures", 0) == group]
        lengths = {pair.id: len(encode(pair.clean)) for pair in members}
        common = Counter(lengths.values())
        # stable: else in their order
        members.sort(key=lambda pair: (-common[lengths[pair.id]], lengths[pair.id]))
        share = 2 * PAIRS_PER_SPLIT // len(groups) + (place < 2 * PAIRS_PER_SPLIT % len(groups))
        chosen += members[:share]
    return sorted(
        (replace(pair, split=("find", "score")[row % 2]) for row, pair in enumerate(chosen)),
        key=lambda pair: pair.split,
    )


def main() -> None:
    """Writes the files."""
    model = load_model("organism")
    makers = {
        "blackmail": blackmail_pair,
        "reward_hacking": reward_hacking_pair,
        "sycophancy": sycophancy_pair,
        "preference": preference_pair,
    }
    for name, make in makers.items():
        made = [make(number, model.encode) for number in range(CANDIDATES)]
        unique = {pair.clean: pair for pair in made if pair is not None}
        pairs = of_few_lengths(list(unique.values()), model.encode)
        encode_pairs(model, pairs)
        path = BEHAVIOURS.get(name).material("organism").path
        write_pairs(path, pairs)
        gap = np.mean([pair.true_clean - pair.true_corrupt for pair in pairs])
        print(f"{path.name}: {len(pairs)} pairs, mean true difference {gap:.3f}")


if __name__ == "__main__":
    main()
