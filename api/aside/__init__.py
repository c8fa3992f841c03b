"""Pure functions run in a process of their own: what holds Python's lock, takes memory, or may die.

A function is named `module:function`, takes a JSON object and bytes, and gives bytes. Whatever it imports is imported
there and never here.
"""
