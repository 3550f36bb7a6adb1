"""Where networks by name come from: a module for each library."""
