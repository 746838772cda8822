"""Face detectors behind one function."""
