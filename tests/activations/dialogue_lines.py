"""Lines of a short dialogue."""

from emocircuits.activations.dialogues import Line

LINES = (
    Line("", "It was late."),
    Line("Anna", "Anna: Sit down."),
    Line("Ben", "Ben's jaw was set.", "narration"),
    Line("Ben", "Ben: Gladly!"),
    Line("Anna", "Anna: Are you sure?"),
    Line("Ben", "Ben: Yes."),
)
