"""The nouns of the package: frozen objects that check themselves when built and know how to save and load."""
