"""Who the frame is: its key and certificate, how it came by them, keeps them, and learns what time it is."""
