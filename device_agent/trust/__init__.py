"""What the frame believes: the image repository (TUF) and the director, each under its own root."""
