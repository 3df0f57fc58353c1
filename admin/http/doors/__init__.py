"""The doors for those who come from elsewhere: usage in the forms of other systems, for their published clients.

Each door translates a form into events and answers as the other system documents. What is recorded, and what counts
twice or is in conflict, is the same by every door. An API key is the token that each of these clients sends.
"""
