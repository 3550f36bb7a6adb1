"""The data sets: their names and digests, where their files are, and how they are read."""
