"""The Temporal processes: settings read once, dependencies built, activities and workflows registered per task queue.

May import everything below it; does not know `admin`.
"""
