"""A run: its recipe, its directory, its stages' machinery."""
