"""Deciding a gray release with evidence. Pure: arrays in, a verdict out."""
