"""The circuits, live, each with its example token by token."""

from emocircuits.artifacts.run_evidence import with_scores
from emocircuits.report.packed import packed_element
from emocircuits.report.pictures import Pictures
from emocircuits.report.run_data import RunData
from emocircuits.report.tables import details
from emocircuits.report.text import esc, words
from emocircuits.report.token_boxes import token_boxes
from emocircuits.viewer.data import viewer_data
from emocircuits.viewer.page import compact_json

TITLE = "Circuits"
TOKENS = (
    "<p>Orange reads more of the emotion, blue less, in units of the mean residual norm; the first token is "
    "an attention sink and has no reading. Point at a token for its number, at a head for its pattern.</p>"
)


def build(run: RunData, pictures: Pictures) -> str:
    """A place for every circuit, which the viewer fills."""
    blocks = []
    for name in run.circuits:
        file = f"<code>circuit_{esc(name)}.json</code>"
        note = f"A browser that runs scripts shows the circuit here; it is {file} of the run."
        blocks.append(f"<h3>{words(name)}</h3>{packed_element('circuit', _data(run, name), note)}")
        boxes, _ = token_boxes(run, name)
        if boxes:
            inside = f'{TOKENS}<div class="tokens">{boxes}</div>'
            blocks.append(details(f"The example of {words(name)}, token by token", inside, opened=True))
    return (
        "<p>Rows are layers, columns the tokens of one prompt. Point at a node for its name, click it for "
        "its card: matched emotions, effect with interval, verified effect, inputs and outputs, the texts "
        "where it is most active. <i>Effects along</i> shows the same nodes under control directions.</p>"
        + "".join(blocks)
    )


def _data(run: RunData, behaviour: str) -> str:
    graph = with_scores(run.circuits[behaviour], run.scores[behaviour])
    return compact_json(viewer_data(graph, run.evidence.get(behaviour)))
