"""The built-in plugins: every EEG format, feature and model that eegstore knows.

They reach eegstore through its public names alone, as a third party's package does.
"""
