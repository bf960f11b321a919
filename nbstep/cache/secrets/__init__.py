"""What must not be written: secrets in texts, in headers, in the contents of errors, and around them."""
