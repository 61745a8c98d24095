"""Benchmark `scale`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""


def run(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    raise NotImplementedError
