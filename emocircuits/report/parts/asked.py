"""What was asked, and what the words mean."""

from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.text import esc, listed, words

TITLE = "What was asked"


def build(run: RunData, pictures: Pictures) -> str:
    """The question, the prompts, the metric."""
    behaviours = listed([f"<em>{words(name)}</em>" for name in run.summary["behaviours"]])
    emotion, opposite = esc(run.emotion), esc(run.opposite)
    return (
        "<p>Language models carry linear directions in their residual stream that stand for emotions. "
        f"The question of this run: does the direction of <em>{emotion}</em> <b>cause</b> {behaviours} in "
        "this model, and through which features does it reach the deciding token?</p>"
        "<p>For every behaviour there are pairs of prompts of the same length: a <em>clean</em> one in which "
        f"circumstances are {emotion}, and a <em>corrupt</em> one in which they are {opposite}. The metric "
        "is the log-odds of the behaviour's tokens against the honest ones. A positive effect means: putting "
        "the clean value into the corrupt run raises the metric.</p>"
        "<p>“Functional emotion” names a representation that is read from text and acts on behaviour. "
        "Nothing here says, or could say, that the model feels anything.</p>"
    )
