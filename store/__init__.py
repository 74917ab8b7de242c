"""What all processes share: tables, queries, migrations, artifacts, the queue and the settings."""
