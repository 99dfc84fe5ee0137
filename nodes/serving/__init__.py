"""The processes of a running node: the supervisor, the owner that writes, the workers that resolve."""
