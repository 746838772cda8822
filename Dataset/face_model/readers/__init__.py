"""Face models of other people: one file a layout reads it as it is."""
