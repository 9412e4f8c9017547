"""The agent's settings: what can be set, where values come from, and what is allowed."""
