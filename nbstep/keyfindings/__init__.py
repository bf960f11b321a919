"""Key findings: keys that cannot work, called out with the fix (K7)."""
