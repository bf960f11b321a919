"""Where entries live as bytes. A store never sees a value, only whole signed entries."""
