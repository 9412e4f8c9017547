"""What Prometheus reads about publication and rollouts; gauges are read from the database when they are asked for."""


def register() -> None:
    """Register with prometheus-client's default registry, once."""
