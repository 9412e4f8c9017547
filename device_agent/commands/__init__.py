"""`device-agent`: one module per sub-command."""
