"""How a release proves itself: golden clips, then probation."""
