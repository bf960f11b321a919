"""Key collisions: when two steps that share a key are certainly different ones (K8)."""
