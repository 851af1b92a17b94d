"""The canonical time-series features of eegstore's trials, through pycatch22."""
