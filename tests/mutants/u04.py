"""Mutantes."""

MUTANTS = {}
