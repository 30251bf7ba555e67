"""Budgets and limits in one place, each with its unit and its reason."""

# A block of the report that opens on a click is packed (deflate) where its HTML has more characters: shorter
# ones save too little, longer ones would be most of the page.
PACK_FROM_CHARACTERS = 100_000
