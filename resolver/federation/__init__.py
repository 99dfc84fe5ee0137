"""Asking children on the read path: drivers, endpoints, failover, and what a child may say. No link, and no cache."""
