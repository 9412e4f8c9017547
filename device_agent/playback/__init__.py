"""Films: the engine that stays warm, its three buffers, and where frames go."""
