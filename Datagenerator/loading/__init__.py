"""Order of an epoch, decoded images, buffers, and batches made ahead of the trainer."""
