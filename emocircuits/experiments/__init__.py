"""Experiments on a model with directions: steering dose-response, coherence, geometry, token readings."""
