"""Fronts: what a caller connects to. Thin: requests in, ready bytes out."""
