"""Readers of single mesh formats; `Dataset.io.mesh_io` chooses among them."""
