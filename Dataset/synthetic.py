"""Synthetic subjects as subject folders:  python -m Dataset.synthetic OUT --subjects 96 --images 60 --seed 0"""
import sys

from Dataset.synthesis.subject_folders import main

if __name__ == "__main__":
    sys.exit(main())
