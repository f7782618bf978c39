"""Methods side by side: scores, peers, tables and a page of them."""
