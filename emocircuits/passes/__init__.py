"""Passes over a model: hooks, recording, editing, resuming in the middle, gradients, and the task they serve."""
