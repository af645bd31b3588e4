"""Clients of language-model APIs."""
