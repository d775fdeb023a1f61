"""Test doubles that ship: for Kedge's own tests and for the tests of people who build on it.

No other package imports this one.
"""
