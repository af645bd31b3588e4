"""Metric logs of GRPO runs that other trainers made, under our names."""
