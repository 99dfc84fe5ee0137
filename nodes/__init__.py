"""What runs: the tiers of a node, its processes, the client and the command line."""
