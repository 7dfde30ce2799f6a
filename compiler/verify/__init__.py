"""A file against the model that it was made from: its outputs on recordings, what it stores, and every op inside."""
