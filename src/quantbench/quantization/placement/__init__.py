"""Where activation quantizers go.

The network as a graph, what its operators are, and the places between them.
"""
