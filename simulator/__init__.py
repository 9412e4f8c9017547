"""Many frames in one process: the agent's own core over memory, an asyncio driver, and simulated people."""
