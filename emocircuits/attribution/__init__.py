"""Attribution: how much each node of a model moves a metric from its corrupt to its clean value.

Adding a method is one file and one line in `emocircuits.attribution.methods`.
"""
