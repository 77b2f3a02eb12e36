"""Benchmarks with recorded results; ``README.md`` says how each is run and what it measures."""
