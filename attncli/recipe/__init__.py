"""Recipes: YAML read with line numbers, checked against a schema, found by name. No torch here."""
