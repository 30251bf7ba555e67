"""One run: a recipe, its stages, a run directory that can be resumed, and the report."""
