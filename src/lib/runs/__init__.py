"""Runs: steps and their parts, fingerprints, parameter files, the runner, sweeps."""
