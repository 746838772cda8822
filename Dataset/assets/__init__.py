"""The built-in face (face.npz, CC0) and the builder that made it; README.md says from what and how."""
