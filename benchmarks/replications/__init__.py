"""Published headline results, run again: settings and claims in TOML, one page for each paper."""
