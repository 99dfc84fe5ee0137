"""Generated from proto/resolver/v1 by `make proto`; nothing here is written by hand."""
