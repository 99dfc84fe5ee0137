"""Generated from proto/nodes/v1 by `make proto`; nothing here is written by hand."""
