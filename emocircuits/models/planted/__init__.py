"""The planted model: a transformer whose weights are set by hand, so that every circuit in it is known."""
