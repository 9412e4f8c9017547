"""From sound to pixels: features, motion, face, picture."""
