"""Pictures and tables made from finished results: curves, attention maps, comparisons."""
