"""Own photos with one scan a subject as subject folders:  python -m Dataset.scans IN OUT"""
import sys

from Dataset.sources.own_scans import main

if __name__ == "__main__":
    sys.exit(main())
