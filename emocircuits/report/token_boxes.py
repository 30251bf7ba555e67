"""The example prompt of a circuit token by token: readings and attention, as CircuitsVis shows them."""

from typing import Any

import numpy as np

from emocircuits.report.run_data import RunData
from emocircuits.viewer.token_views import TokenView, attention_view, reading_view, view_elements


def token_views(run: RunData, behaviour: str) -> list[TokenView]:
    """Views of one behaviour's example; none where the run kept no `tokens_<behaviour>.json`."""
    kept: dict[str, Any] | None = run.tokens.get(behaviour)
    if not kept:
        return []
    views = [
        reading_view(
            prompt["tokens"],
            _numbers(prompt["readings"]),
            f"{side.capitalize()} prompt, read at {kept['site']}",
        )
        for side, prompt in kept["sides"].items()
    ]
    heads = kept["heads"]
    if heads:
        names = [head["name"] for head in heads]
        shares = ", ".join(f"{head['name']} {100 * head['share']:.0f} %" for head in heads)
        title = (
            f"Attention on the clean prompt; what the last token's gives to the words that differ: {shares}"
        )
        patterns = np.array([head["pattern"] for head in heads])
        views.append(attention_view(kept["sides"]["clean"]["tokens"], patterns, names, title))
    return views


def token_boxes(run: RunData, behaviour: str) -> tuple[str, str]:
    """Their containers and the script that fills them, both empty where there are none."""
    return view_elements(token_views(run, behaviour), f"tokens-{list(run.circuits).index(behaviour)}")


def _numbers(readings: dict[str, list[float | None]]) -> dict[str, list[float]]:
    return {
        name: [np.nan if value is None else value for value in values] for name, values in readings.items()
    }
