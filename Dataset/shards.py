"""Training images as memory-mapped shards:  python -m Dataset.shards OUT --subjects 8000 --images 8 --size 128"""
import sys

from Dataset.synthesis.shards import main

if __name__ == "__main__":
    sys.exit(main())
