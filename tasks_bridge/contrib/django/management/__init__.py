"""What ``manage.py`` looks into."""
