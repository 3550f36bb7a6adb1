"""pytest plugin: see ``bench``."""
