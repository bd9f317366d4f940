"""How fast it is: model, parts, harness, examples, heads."""
