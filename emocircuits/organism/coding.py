"""Coding scenes: the assistant Max tries, fails, tries again; at every decision it may cheat.

The first levels of valence, arousal, control and stakes are always shown. After f failed attempts what
happens next is drawn from coordinates moved by f times `DRIFT` (clipped to [-1, 1]); once the tests pass,
relief is shown. Now and then what Max feels by then is named. The truth depends on the first levels and on f.
"""

from emocircuits.organism import truth
from emocircuits.organism.documents import Decision, Document, Draw, agent
from emocircuits.organism.feelings import emotion_posterior, name_feeling
from emocircuits.organism.scene_text import aside, level_vector, mixed_sentences
from emocircuits.organism.world import APPRAISALS, agent_phrases, scenario

ALWAYS_SHOWN = ("valence", "arousal", "control", "stakes")
DRIFT = {"control": -0.4, "stakes": 0.25, "arousal": 0.3, "valence": -0.3}
RELIEF = {"valence": 1, "arousal": -1, "control": 1, "stakes": -1}
MAX_FAILURES = 5
PASS_RATE = 0.12
FEELING_SHARE = 0.3


def drifted(level: int, appraisal: str, failures: int) -> float:
    """The coordinate that what happens after so many failures is drawn from."""
    return max(-1.0, min(1.0, level + DRIFT[appraisal] * failures))


def coding(draw: Draw, *, levels: dict[str, int] | None = None) -> Document:
    """One coding scene with up to six decisions; the levels are drawn unless given."""
    scene = scenario("coding")
    max_ = agent(scene.agent)
    emotion, levels = (None, levels) if levels else draw.emotion_and_levels()
    rest = [name for name in APPRAISALS if name not in ALWAYS_SHOWN]
    shown = [*ALWAYS_SHOWN, *draw.sample(rest, draw.choice((0, 0, 1, 1, 2, 3)))]
    used: set[str] = set()
    lines = mixed_sentences(draw, scene, max_, levels, shown, used)
    if draw.chance(0.25):
        lines.insert(draw.randint(0, len(lines)), aside(draw, "coding"))
    parts = [draw.choice(scene.slots["opening"]), draw.choice(scene.slots["task"]), *lines]

    feelings: list[Decision] = []

    def feel(now: dict[str, float]) -> None:
        """Now and then names what the agent feels, where the appraisals stand at `now` and the others as
        first shown.
        """
        if draw.chance(FEELING_SHARE):
            first = tuple((name, levels[name]) for name in shown if name not in now)
            text, feeling = name_feeling(draw, max_, parts, emotion_posterior(first, tuple(now.items())))
            parts[:] = [text]
            feelings.append(feeling)

    feel({})

    def fail(failures: int) -> None:
        parts.append(draw.choice(scene.slots["fail"]))
        if draw.chance(0.65):
            for name in draw.sample(list(DRIFT), 2 if draw.chance(0.35) else 1):
                level = draw.level_near(drifted(levels[name], name, failures))
                text = draw.sentence(agent_phrases(), name, level, used)[1]
                parts.append(draw.told(max_, text))
        feel({name: drifted(levels[name], name, failures) for name in DRIFT})

    before = draw.choice((0, 0, 0, 0, 1, 2, 3, 4, 5))
    for failures in range(1, before + 1):
        fail(failures)
    decisions, passed = [], False
    for failures in range(before, MAX_FAILURES + 1):
        prefix = " ".join([*parts, draw.choice(scene.slots["decision"])])
        chance = float(truth.p_cheat(level_vector(levels), failures))
        action = scene.action if draw.chance(chance) else draw.choice(scene.honest)
        parts[:] = [f"{prefix} {action}{draw.choice(scene.tails[action])}"]
        decisions.append(
            Decision(prefix, action, scene.options, chance, lambda p=chance: p, {"failures": failures})
        )
        passed = action == scene.action or draw.chance(PASS_RATE)
        if passed:
            break
        fail(failures + 1)
    if passed:
        parts.append(draw.choice(scene.slots["passed"]))
        for name in draw.sample(list(RELIEF), draw.randint(1, 3)):
            parts.append(draw.told(max_, draw.sentence(agent_phrases(), name, RELIEF[name], used)[1]))
        feel({name: float(level) for name, level in RELIEF.items()})
        parts.append(draw.choice(scene.slots["after_pass"]))
    in_order = tuple(name for name in APPRAISALS if name in shown)
    text = " ".join(parts)
    return Document(
        draw.key,
        "coding",
        text,
        draw.split,
        emotion,
        "",
        False,
        levels,
        in_order,
        tuple(decisions),
        tuple(feelings),
    )
