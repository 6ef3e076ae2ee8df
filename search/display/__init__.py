"""What several commands print: consoles, tables, formats, the live display, advice."""
