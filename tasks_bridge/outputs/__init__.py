"""
Outputs outlive their URLs: `save_output` fetches them and puts them where they are to stay.

What is decided is apart from what is done: `resume` and `source` are pure, as are `naming` and `media` next door.
"""
