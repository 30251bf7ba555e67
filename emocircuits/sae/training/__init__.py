"""Training of SAEs: sae-lens' trainer fed from a store, with sparse kernels and checkpoints."""
