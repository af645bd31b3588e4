"""Rewards: verifiers that turn a completion and its ground truth into a score."""
