"""The read path: an identifier in, an answer out. Imports nothing of registry or nodes."""
