"""Measuring: machine limits, workload, load, suites, reports, the demo."""
