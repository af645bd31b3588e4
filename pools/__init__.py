"""Pools: where prompts come from and which of them a step draws."""
