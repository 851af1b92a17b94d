"""An extractor of eegstore that lives in a distribution of its own."""
