"""The command line: ``main`` dispatches, one module per command says its options and prints."""
