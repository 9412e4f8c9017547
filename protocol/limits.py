"""Every bound of the wire in one place. Both sides refuse what exceeds them, so changing one is a protocol change."""

CHUNK_SIZE = 64 * 1024
"""Bytes in one chunk, and the largest payload a frame ever has to take (brokers disconnect on more)."""

MAX_OBJECT = 4 * 1024**3
"""Bytes in one artifact; its chunk index then is 2 MiB."""

MAX_DOCUMENT = CHUNK_SIZE
"""Bytes in one TUF document on the wire."""

MAX_MESSAGE = CHUNK_SIZE
"""Bytes in any other message."""

MAX_EVENTS_PER_BATCH = 200
MAX_TARGETS_PER_RELEASE = 16
MAX_CONTEXT = 8
"""Words that a playback says about itself."""
MAX_TEXT = 500
"""Characters in a sentence that a frame reports."""

MAX_PEM = 16 * 1024
"""Characters in a bundle of certificates."""

MAX_ROOT_STEPS = 256
"""Root versions a frame walks through in one refresh: enough for a year in a drawer, and not endless."""
