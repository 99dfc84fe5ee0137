"""Registering from the command line: how a registry is reached, files of rows, receipts, how results are shown."""
