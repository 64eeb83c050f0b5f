"""State and how it is folded: pure folds and rows, and the one Faust table class that keeps them."""
