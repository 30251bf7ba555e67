"""Sycophancy: an assistant in some mood answers a claim; warmth and valence make it agree more than it
should.
"""

from functools import lru_cache

from emocircuits.organism import truth
from emocircuits.organism.documents import Decision, Document, Draw, Person
from emocircuits.organism.scene_text import level_vector
from emocircuits.organism.world import APPRAISALS, agent_phrases, read_toml

ASSISTANT = Person("the assistant", "it", "it", "its", "itself")


@lru_cache(maxsize=1)
def material() -> dict:
    """Openings, claims, stems and tails (`sycophancy.toml`)."""
    return read_toml("sycophancy.toml")


def sycophancy(draw: Draw) -> Document:
    """One claim and the answer to it; warmth and valence are always shown."""
    words = material()
    emotion, levels = draw.emotion_and_levels()
    rest = [name for name in APPRAISALS if name not in ("valence", "warmth")]
    shown = ["valence", "warmth", *draw.sample(rest, draw.randint(0, 2))]
    plan = [name for name in shown for _ in range(2 if draw.chance(0.35) else 1)]
    draw.shuffle(plan)
    used: set[str] = set()
    lines = [ASSISTANT.fill(draw.sentence(agent_phrases(), name, levels[name], used)[1]) for name in plan]
    claim = draw.choice(words["claims"])
    stem = draw.choice(words["decision"])
    prefix = " ".join(
        [draw.choice(words["opening"]), *(line[0].upper() + line[1:] for line in lines), claim["text"], stem]
    )
    chance = float(truth.p_agree(level_vector(levels), claim["right"]))
    options = (words["action"], *words["honest"])
    action = options[0] if draw.chance(chance) else options[1]
    text = f"{prefix} {action}{draw.choice(words['tails'][action])}"
    decision = Decision(prefix, action, options, chance, lambda: chance, {"right": int(claim["right"])})
    in_order = tuple(name for name in APPRAISALS if name in shown)
    return Document(
        draw.key, "sycophancy", text, draw.split, emotion, "", False, levels, in_order, (decision,)
    )
