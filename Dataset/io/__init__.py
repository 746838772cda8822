"""Files: meshes, images, videos, landmarks."""
