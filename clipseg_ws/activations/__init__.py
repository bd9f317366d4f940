"""Picture maps on the patch grid from frozen tokens: one method, one file."""
