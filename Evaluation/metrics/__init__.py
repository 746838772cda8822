"""Arrays in, one value a sample out, each with its definition."""
