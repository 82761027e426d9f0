"""Versions of the directory's tables.

0001_residents.py   domain, account, credential, forward, forward_target
"""
