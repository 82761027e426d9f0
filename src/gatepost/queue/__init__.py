"""Queue"""
