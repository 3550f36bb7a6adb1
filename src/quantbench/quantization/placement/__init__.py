"""Where activation quantizers go: the network as a graph, what its operators are, and the places between them."""
