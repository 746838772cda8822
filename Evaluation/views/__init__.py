"""The views of `demo.py --view` and the images of an epoch: predictions drawn over photos."""
