"""Pieces that the agents' scenes share: level vectors, mixed sentences, asides."""

import numpy as np
from jaxtyping import Float

from emocircuits.organism.documents import Draw, Person
from emocircuits.organism.world import APPRAISALS, Scenario, agent_phrases, read_toml, topics

_ASIDES = read_toml("deeds.toml")["aside"]


def level_vector(levels: dict[str, int]) -> Float[np.ndarray, "appraisal"]:
    """Levels in the order of `APPRAISALS`."""
    return np.array([levels[name] for name in APPRAISALS], dtype=np.float64)


def mixed_sentences(
    draw: Draw, scene: Scenario, who: Person, levels: dict[str, int], shown: list[str], used: set[str]
) -> list[str]:
    """One or two sentences per shown appraisal, from the scene's own and the general bank (both are always
    present).
    """
    plan = [name for name in shown for _ in range(2 if draw.chance(0.3) else 1)]
    general = [draw.chance(0.5) for _ in plan]
    general[0], general[-1] = True, False
    draw.shuffle(plan)
    banks = (scene.bank, agent_phrases())
    lines = [
        draw.told(who, draw.sentence(banks[wide], name, levels[name], used)[1])
        for name, wide in zip(plan, general, strict=True)
    ]
    draw.shuffle(lines)
    return lines


def aside(draw: Draw, scene_name: str) -> str:
    """A flat remark about someone's everyday topic, which bears on nothing."""
    person = draw.person()
    detail = draw.choice(draw.choice(list(topics().values()))["detail"])
    return f"{person.fill(draw.choice(_ASIDES[scene_name]))} {person.fill(detail)}"
