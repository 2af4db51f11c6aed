"""What belongs to one web framework each: thin leaves, in which no decision about a job is made."""
