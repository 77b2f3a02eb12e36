"""Environments: one interface (``base``), OGBench's tasks (``make``), toys, many side by side."""
