"""A head trained on a folder of masks or tags: options, data, views, masks, the recipe."""
