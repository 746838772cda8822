"""Check a whole dataset before training on it:  python -m Dataset.validate FOLDER"""
import sys

from Dataset.sources.validate import main

if __name__ == "__main__":
    sys.exit(main())
