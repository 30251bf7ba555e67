"""The interactive circuit viewer: its data, its page, its notebook widget."""
