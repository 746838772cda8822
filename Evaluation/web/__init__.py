"""Two web pages: a face from photos (`demo.py --serve`), and a training run."""
