"""Adapters on a model engineer's machine: what they are, what they do. Only `file` runs without the extra `model`."""
