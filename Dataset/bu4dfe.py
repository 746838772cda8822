"""Raw BU-4DFE -> subject folders:  python -m Dataset.bu4dfe RAW OUT [--neutral FILE.csv] [--workers N] [flags]"""
import sys

from Dataset.sources.bu4dfe import main

if __name__ == "__main__":
    sys.exit(main())
