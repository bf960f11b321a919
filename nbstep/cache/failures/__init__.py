"""Errors to records and back: taken apart, reduced, rebuilt without their constructors."""
