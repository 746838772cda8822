"""The face model fitted to photos, depth maps, volumes and scans."""
