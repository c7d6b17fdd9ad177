"""Translation between Japanese and English (task 2): an encoder–decoder, and the same with attention."""
