"""The version this agent reports. ``framectl`` reads this line out of an agent's file, without running it."""

AGENT_VERSION = "0.2.0"
