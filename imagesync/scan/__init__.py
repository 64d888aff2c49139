"""Scan an environment: its installed packages, and the source of each.

An interpreter or a prefix goes in; an ``Environment`` comes out.
"""
