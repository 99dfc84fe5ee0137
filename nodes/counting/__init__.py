"""Counts on their way: from resolvers to the process that owns the store, and from this node to the one above."""
