"""
Celery tasks that stand for ByteSpike image and video jobs.
"""

__version__ = "0.1.0"
