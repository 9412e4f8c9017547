"""The command line for ops and model engineers: signs offline, and talks to the REST API only."""
