def export(trainer, pool, wordnet, out):
    pass
