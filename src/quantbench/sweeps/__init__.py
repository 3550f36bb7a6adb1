"""Sweeps: methods x schemes x networks x seeds, on one machine, in shards or on a cluster."""
