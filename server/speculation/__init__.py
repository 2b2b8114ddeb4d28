"""Pair embeddings computed before they are asked for."""
