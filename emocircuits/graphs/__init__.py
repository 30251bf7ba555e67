"""Graphs over a model: components and SAE features as nodes, what runs between them as edges."""
