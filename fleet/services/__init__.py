"""What writes: each function is one use case in one transaction."""
