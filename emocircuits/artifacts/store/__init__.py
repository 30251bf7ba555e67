"""The activation store: rows of residual streams on disk, written shard by shard, read in bounded memory."""
