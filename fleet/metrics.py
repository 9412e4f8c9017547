"""What the backend measures of its own intake (prometheus-client, default registry)."""

from prometheus_client import Counter, Histogram

EVENTS = Counter("framefleet_events", "Telemetry events stored or already there, by kind.", ["kind"])
EVENTS_DROPPED = Counter("framefleet_events_dropped", "Telemetry events that were not taken, by reason.", ["reason"])
EVENTS_REDATED = Counter(
    "framefleet_events_redated",
    "Events stored under another time than the frame told: its clock is wrong (skew), or they lay in the future.",
    ["why"],
)
MESSAGES = Counter("framefleet_messages", "Messages from frames, by kind.", ["kind"])
MESSAGES_DROPPED = Counter("framefleet_messages_dropped", "Messages from frames not taken, by reason.", ["reason"])
CLONES = Counter("framefleet_cloned_identities", "Frames told to be two with one identity, at most once a day each.")
INGEST_SECONDS = Histogram(
    "framefleet_ingest_seconds",
    "Duration of one ingest transaction in seconds.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
