"""Versions of the queue's tables; how to write one stands in the folder above."""
