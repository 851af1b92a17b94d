"""``python -m eegstore``: the same command line as ``eegstore``."""

from eegstore.cli import main

if __name__ == "__main__":
    main()
