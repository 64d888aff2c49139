"""Locking what conda installed: read off its records, or solved for another platform."""
