"""What a network has to be, and that it is still the same after it was rewritten."""
