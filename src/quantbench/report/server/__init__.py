"""Finished runs on an MLflow server: an experiment for each paper, and models that predict."""
