"""A network with the data that it is measured on, and the measurement."""
