"""The console's pages: each view reads through selectors and hands plain values to one template."""
