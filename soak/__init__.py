"""
A chaos soak: thousands of jobs while workers, Redis and the API fail by a seeded chance, and then the books.

`plan` (what is asked for), `weather` (what goes wrong), `books` (was every promise kept) and `report` are pure; `run`
brings them together with real servers and real workers.
"""
