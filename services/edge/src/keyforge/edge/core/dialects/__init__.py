"""What agents and providers speak: reading it, rendering it, metering it. Pure."""
