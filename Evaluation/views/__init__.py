"""What `demo.py --view` draws: what a network sees in a photo."""
