"""Words: vocabularies, prompt lists, embeddings, background words, sharpness, experts."""
