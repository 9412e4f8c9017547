"""The birth endpoint: where a frame gets its first certificate, and one that lapsed in a drawer is renewed."""
