"""The household's page, and what a frame says of itself in words and as JSON."""
