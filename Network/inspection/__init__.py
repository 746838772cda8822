"""What a network costs and looks like, and what its layers give."""
