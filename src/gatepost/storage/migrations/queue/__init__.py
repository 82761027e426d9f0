"""Versions of the queue's tables; how to write one stands in the folder above.

0001_messages_and_jobs.py   shard, message, job
"""
