"""`topnode load`: rows from a file or a pipe into a store, through its owner where a node runs."""
