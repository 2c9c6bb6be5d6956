"""The shapes of the catalogue: one module per branch of surgery, its table of sizes beside it under the same name."""
