"""Surgical tools and implants: the catalogue, the meshes users bring, and where in a patient they belong."""
