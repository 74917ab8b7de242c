"""What every process remembers: tables, queries, migrations, artifacts, the queue's name and the settings."""
