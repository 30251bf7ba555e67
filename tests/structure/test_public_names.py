"""The public names are the lines of `emocircuits/__init__.pyi`."""

from structure.rows import PACKAGE

import emocircuits


def test_no_public_name_is_a_room_or_module():
    """Importing a sub-module sets an attribute of its name on the package, over the public name."""
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {"activations", "errors"} <= rooms
    assert not rooms & set(emocircuits.__all__)
