"""Caches: ready answers kept close."""
