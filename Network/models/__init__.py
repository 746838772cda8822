"""One file a network: its paper, a frozen Config, build(config)."""
