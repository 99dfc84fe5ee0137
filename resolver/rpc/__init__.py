"""gRPC plumbing for all floors: errors as statuses, servers, channels."""
