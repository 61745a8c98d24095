"""06 and the appendices: base against final, mistakes, calibration, spaces, robustness."""
