"""Who says so: keys, signed envelopes, and the tree by which it can be proven later. Primitives, for all floors."""
