"""`python -m emocircuits`, which is what `torchrun` starts."""

from emocircuits.cli.main import entry

entry()
