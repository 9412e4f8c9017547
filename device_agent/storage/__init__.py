"""What the agent keeps on disk: artifacts, journal, documents, events; and the same in memory for simulated frames."""
