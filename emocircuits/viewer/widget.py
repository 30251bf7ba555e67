"""The viewer as an anywidget, for notebooks that want to read and set what the reader has chosen (extra
`widgets`).
"""

from functools import cache
from typing import Any

from emocircuits.artifacts.circuit import CircuitGraph
from emocircuits.artifacts.evidence import CircuitEvidence
from emocircuits.errors import UserError
from emocircuits.viewer.data import viewer_data
from emocircuits.viewer.page import viewer_css, viewer_module


def circuit_widget(
    graph: CircuitGraph, evidence: CircuitEvidence | None = None, height: int | None = None
) -> Any:
    """A live view of the circuit; its `state` is shared with the page both ways.

    Args:
        graph: the circuit.
        evidence: what a run measured around it.
        height: most pixels of the canvas.

    Raises:
        UserError: anywidget is not installed.
    """
    options = {} if height is None else {"height": height}
    return _widget_class()(graph=viewer_data(graph, evidence), options=options)


@cache
def _widget_class() -> type:
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise UserError(
            "the package anywidget is not installed",
            cure="pip install 'emocircuits[widgets]'; without it a circuit shows itself as an iframe",
        ) from error

    class CircuitWidget(anywidget.AnyWidget):
        """Graph and options go to the page; `state` comes back: selected, pinned, groups, labels, view, …"""

        _esm = viewer_module()
        _css = viewer_css()
        graph = traitlets.Dict().tag(sync=True)
        options = traitlets.Dict().tag(sync=True)
        state = traitlets.Dict().tag(sync=True)

    return CircuitWidget
