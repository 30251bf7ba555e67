"""Long texts inside the page, as deflate in base64; `report.js` unpacks them in the reader's browser.

`DecompressionStream` does it in every browser since 2023, from `file://` as well and with no request. A place
for such a text says in words what it holds, for readers whose browser runs no scripts.
"""

import base64
import zlib


def packed(text: str) -> str:
    """Text as zlib data in base64."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def packed_element(kind: str, text: str, note: str) -> str:
    """An element that the page fills from a packed text.

    Args:
        kind: class of the element, by which `report.js` knows what to do with the text.
        text: what is packed.
        note: HTML that stands there until then.
    """
    return f'<div class="{kind}"><p>{note}</p><script type="text/plain">{packed(text)}</script></div>'
