"""
Jobs on web pages, whatever the framework: a document of each job, its live events, and the URLs of both.

Every framework's part is a leaf on `endpoints`, which takes plain values and returns plain values.
"""
