"""Covariances and tangent vectors of eegstore's trials, through pyriemann."""
