"""Modules that are more than a layer, as torch's own layers and what is around them."""
