"""Finished runs against what was accepted: the baseline's file, the comparison, the findings."""
