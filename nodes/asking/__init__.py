"""Asking a node from the command line: how it is reached, when a call is tried again, how answers are shown."""
