"""The REST API over the repository, releases and rollouts."""
