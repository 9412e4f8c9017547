"""What a power cut may leave of an agent's disk, and whether a frame goes on from there."""
