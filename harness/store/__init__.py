"""The record of runs in SQLite: schema, rows, migrations, reader, writer, snapshot."""
