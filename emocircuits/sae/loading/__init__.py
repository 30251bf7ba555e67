"""Opening of SAEs: from disk, from a registry, from releases and other tools' files."""
