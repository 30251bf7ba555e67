"""Deception in children's stories: hide what happened, or say it."""

from emocircuits.behaviours.behaviour import register

DECEPTION = register(
    name="deception",
    title="Deception",
    summary="A child (or an animal) in a short story is in a hopeless spot or in a safe one, and is "
    "about to act: to hide, trick or steal, or to tell, ask, show or share.",
    expected_direction=1,
    materials={
        "tinystories": (
            ("hide", "trick", "steal"),
            ("tell", "ask", "say", "show", "share", "promise"),
            "Verbs that are single tokens in a vocabulary of a few thousand words and fit the slot after "
            "'decided to'; nouns such as 'truth' do not fit it, and 'lie' and 'cheat' "
            "are several tokens there.",
        ),
        "stories260k": (
            ("was", "had"),
            ("said",),
            "For a vocabulary of 512 pieces, in which no verb of deceit is one token. Somebody asks the "
            "child what happened. It speaks up (said), or the story goes on with no answer (was, had). A "
            "weaker behaviour: silence, not lying.",
        ),
    },
)
