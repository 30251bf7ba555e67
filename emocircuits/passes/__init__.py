"""Passes over a model: hooks, recording, editing, resuming in the middle, and gradients."""
