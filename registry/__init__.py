"""The write path: registrations in, records and routes out. Imports nothing of nodes."""
