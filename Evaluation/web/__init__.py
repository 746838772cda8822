"""The page that turns photos into a face, and the page of a run."""
