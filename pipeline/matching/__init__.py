"""Match tables of texts with a query list, without a build."""
