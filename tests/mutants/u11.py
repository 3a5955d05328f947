"""Unidad 11."""

MUTANTS = {}
