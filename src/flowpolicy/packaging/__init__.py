"""Packages: a trained policy as a folder that can be checked, published and run without JAX."""
