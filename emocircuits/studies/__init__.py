"""What a command asks of a run: directions, SAEs, matches, steering, tracing."""
