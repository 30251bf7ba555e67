"""Interventions on a running model: splice SAEs, patch, ablate, steer. Context managers, always undone."""
