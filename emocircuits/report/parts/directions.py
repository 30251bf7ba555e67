"""The emotion directions: their geometry, how well they read, and a text read along them."""

from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import facts, frame, long_details

TITLE = "Emotion directions"
SCORES = {
    "valence_r": "|r| of a top component with valence",
    "arousal_r": "|r| with arousal",
    "held_out_auroc": "mean held-out AUROC",
}


def build(run: RunData, pictures: Pictures) -> str:
    """What a direction is, how good they are, and all of them."""
    return (
        "<p>A direction is the mean residual of an emotion's stories, minus the mean over all emotions, with "
        "what neutral text varies along removed. Held-out AUROC says how well the projection tells one "
        "emotion from all others on stories that made no direction; 0.5 is chance.</p>"
        + facts((text, run.summary["directions"].get(name)) for name, text in SCORES.items())
        + pictures["emotion_similarity"]
        + pictures.get("emotion_pca")
        + pictures.get("token_reading")
        + long_details(
            f"All {len(run.directions)} directions", frame(run.directions, tall=True), "directions.csv"
        )
    )
