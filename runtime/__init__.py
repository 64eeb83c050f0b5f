"""What every process stands on: settings, clocks, logs, metrics, health, tokens and an orderly stop."""
