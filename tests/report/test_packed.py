"""What stands packed in the page comes back whole, and nothing in it can become markup."""

import base64
import re
import zlib

from emocircuits.report.packed import packed, packed_element
from emocircuits.report.tables import details, long_details

TEXT = '</script><img src=x onerror="window.pwned=1">\u2028 🙂 ' * 3000


def test_packed_text_comes_back():
    text = packed(TEXT)
    assert zlib.decompress(base64.b64decode(text)).decode() == TEXT
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", text) and len(text) < len(TEXT) / 50
    element = packed_element("circuit", TEXT, "note")
    assert element.startswith('<div class="circuit"><p>note</p><script type="text/plain">')
    assert "<img" not in element


def test_only_long_blocks_are_packed():
    assert long_details("All", "<p>short</p>", "matches.csv") == details("All", "<p>short</p>")
    long = long_details("All", TEXT, "a<b.csv")
    assert "<img" not in long and "<code>a&lt;b.csv</code> of the run" in long
