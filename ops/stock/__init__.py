"""`stock`: the pieces of stock items, and the groups that have them."""
