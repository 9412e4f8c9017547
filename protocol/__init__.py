"""The wire between frames and backend, written once.

Only msgspec and the standard library: everything here runs on a frame, in the backend and in tests alike, and nothing
here does I/O.
"""
