"""A node's dealings with the node above it: joining, signs of life, and what is registered here made known there."""
