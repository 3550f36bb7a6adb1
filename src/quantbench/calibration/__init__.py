"""quantbench.calibration."""
