"""Runtimes timed side by side: the same networks, in one process, taking turns."""
