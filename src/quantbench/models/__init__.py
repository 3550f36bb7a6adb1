"""The families of networks, their weights, and the catalogue that names them."""
