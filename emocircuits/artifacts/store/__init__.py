"""The activation store: rows of residual streams on disk, written shard by shard and read with bounded memory."""
