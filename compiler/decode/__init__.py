"""Searches outside the graph: CTC prefix beam search, transducers, and what is fused into them."""
