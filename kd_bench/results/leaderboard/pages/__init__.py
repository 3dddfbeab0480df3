"""HTML pages: one with all boards, and a small one for every run. They load nothing and need no script to be read."""
