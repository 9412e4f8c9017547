"""The installer: a state machine without I/O over a journal."""
