"""Budgets and limits in one place, each with its unit and its reason."""

# Significance level (a probability) of every statement that calls something significant.
SIGNIFICANCE = 0.05
# Probability that a behaviour's words and the honest ones have together, below which the report warns: a rate
# among them says next to nothing about what the model would write.
LEAST_COVERAGE = 0.1
GOOD_COVERAGE = 0.5  # of the probability, from which on a rate is a rate and not a share of little

# Nodes and links of a circuit on a live page: what a browser draws in well under a second and a page of a few
# megabytes holds. Of a larger circuit the strongest part is shown, and the page says so.
PAGE_NODES, PAGE_LINKS = 20_000, 50_000
# Paths that a page lists from one starting point to one target: more are not read.
PAGE_PATHS = 8
# A block of the report that opens on a click is packed (deflate) where its HTML has more characters: shorter
# ones save too little, longer ones would be most of the page.
PACK_FROM_CHARACTERS = 100_000

# Nodes of a circuit as a picture, and how many of them have a label: a page of paper holds no more.
PICTURE_NODES, PICTURE_LABELS = 40, 24
# Labels along a side of the pairwise similarities, in the plane of components, among the preferences: at the
# width of two columns more would cover each other.
SIMILARITY_LABELS, PLANE_LABELS, PREFERENCE_LABELS = 56, 16, 14
# Tokens of the transcript that is read along the directions: four lines of text.
TRANSCRIPT_TOKENS = 64
# Features of the causal check, those with the largest effects: one line each.
CHECKED_FEATURES = 16
# Of a feature on its dashboard: example texts, tokens of each, and tokens that it raises or lowers most.
DASHBOARD_EXAMPLES, DASHBOARD_TOKENS, DASHBOARD_WORDS = 4, 22, 6
# Tokens that the logit lens names on each side of a direction.
LENS_TOKENS = 7
# Emotions that name a cluster.
CLUSTER_EXEMPLARS = 4
