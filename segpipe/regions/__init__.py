"""What methods share: components, canonical numbering, merging, sums per region."""
