"""The answerers (by maps, by words, by head) and the steps they run."""
