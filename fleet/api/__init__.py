"""The REST API over frames and groups."""
