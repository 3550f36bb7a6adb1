"""What calibration data says about a network: passes, activations, moments, ranges and shifts."""
