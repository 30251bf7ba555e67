"""Addresses of features on Neuronpedia. Only what has exactly their form ever becomes a link, whatever a file
says.
"""

import re
from typing import Any

HOST = "https://www.neuronpedia.org/"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_PAGE = re.compile(re.escape(HOST) + _ID.pattern + r"/[0-9]+")


def feature_page(sae_id: Any, feature: int) -> str:
    """The page of a feature.

    Args:
        sae_id: model and SAE as Neuronpedia names them, e.g. `gemma-2-2b/12-gemmascope-res-16k`.
        feature: number of the feature.

    Returns:
        Its address; "" where the id is none.
    """
    return f"{HOST}{sae_id}/{int(feature)}" if isinstance(sae_id, str) and _ID.fullmatch(sae_id) else ""


def known_page(address: Any) -> str:
    """The same address where it is a feature's page, else ""."""
    return address if isinstance(address, str) and _PAGE.fullmatch(address) else ""
