"""emocircuits: from emotion directions to the circuits that carry them to behaviour."""

__version__ = "0.1.0"
