"""Model-based search: Gaussian processes, covariance matrix adaptation, density estimators."""
