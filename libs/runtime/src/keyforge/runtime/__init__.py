"""What every KeyForge process needs: settings, logs, clock, connections, health."""
